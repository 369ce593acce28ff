"""What a supervisor does with files that are ready: `cloud_worker.py SOURCE STORE ENDPOINT`, for `cloud.py`.

Sends all below SOURCE to a cluster of that store, records them as the run `bench`, and prints {"seconds", "extra_mib"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from gridkeep.model import Artifact, ArtifactState, Cluster, Experiment, Run, RunSpec, State, new_ulid
from gridkeep.runs.context import open_context
from gridkeep.supervisor.transfers import Sent, ToSend, Transfers

QUEUED = 512  # files handed over ahead, as a supervisor does


def main(source: str, uri: str, endpoint: str) -> None:
    with open_context(start_engine=False) as context:
        cluster = Cluster(name="cloud", engine="local", store=uri, endpoint=endpoint, region="us-east-1")
        context.catalog.put_cluster(cluster)
        run_id, now = f"wr_{new_ulid()}", time.time()
        ulid = new_ulid()
        experiment = Experiment(
            experiment_id=ulid, run_id=run_id, run="bench", index=0, state=State.COMPLETED, created_at=now
        )
        run = Run(
            run_id=run_id,
            name="bench",
            kind="script",
            cluster="cloud",
            created_by="bench",
            created_at=now,
            spec=RunSpec(argv=["python"], display="bench.py", workdir="", root="/"),
        )
        context.catalog.create_run(run, [experiment])
        store = context.store("cloud")
        store.check()  # connections and whatever is imported at the first use: a supervisor has them
        files = [
            ToSend(
                os.fsencode(path),
                os.fsencode(path.relative_to(source)),
                path.stat().st_size,
                False,
                True,
                False,
            )
            for path in sorted(Path(source).rglob("*.bin"))
        ]
        base = peak()
        seconds, sent = send(
            Transfers(
                store, ulid, context.settings.transfer_threads, lambda: None, context.home.journal(ulid)
            ),
            files,
        )
        print(json.dumps({"seconds": seconds, "extra_mib": (peak() - base) / 1024}))
        listed = {file.path: file.listed for file in files}
        context.catalog.record_artifacts(
            ulid,
            [
                Artifact(
                    artifact_id=f"art_{new_ulid()}",
                    experiment_id=ulid,
                    path=listed[path],
                    state=ArtifactState.STORED,
                    size=one.size,
                    sha256=one.sha256,
                    mtime_ns=one.mtime_ns,
                    mode=one.mode,
                    key=one.key,
                    etag=one.etag,
                )
                for path, one in sent.items()
            ],
        )


def send(transfers: Transfers, files: list[ToSend]) -> tuple[float, dict[bytes, Sent]]:
    waiting, sent = list(reversed(files)), dict[bytes, Sent]()
    began = time.perf_counter()
    while len(sent) < len(files):
        if waiting and len(files) - len(waiting) - len(sent) <= QUEUED:
            transfers.start([waiting.pop() for _ in range(min(QUEUED, len(waiting)))])
        for result in transfers.finished():
            assert isinstance(result.outcome, Sent), result
            sent[result.path] = result.outcome
        time.sleep(0.002)
    seconds = time.perf_counter() - began
    transfers.close()
    return seconds, sent


def peak() -> int:
    """The most memory so far, in KiB."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(*sys.argv[1:])
