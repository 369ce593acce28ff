"""Events: nothing is missed, nothing comes twice, a slow follower holds nobody up, and streams end in order."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import Artifact, ArtifactState, Experiment, State, new_ulid
from gridkeep.runs.context import Context
from tests.api.serving import Served
from tests.unit.made import finish, keep, make_run, move_log_to_store, print_to_journal

pytestmark = pytest.mark.xdist_group("events")  # one server for all
FOLLOWERS = 200
WRITES = 60
Event = dict[str, Any]


def parse(lines: Iterator[str]) -> Iterator[Event]:
    """The events of a stream: `id`, `event`, and `data` as JSON. As browsers read them (HTML, 9.2.6), heartbeats apart."""
    event: Event = {}
    for line in lines:
        if not line:
            if "data" in event:
                yield event | {"data": json.loads(event["data"])}
            event = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            event[name] = value


def until(events: Iterator[Event], last: Callable[[Event], bool]) -> list[Event]:
    """The events up to the one that is meant."""
    found = []
    for event in events:
        found.append(event)
        if last(event):
            return found
    raise AssertionError(f"the stream ended after {found[-1:]}")


def never(_: Event) -> bool:
    return False


def follow(
    served: Served, path: str, last: Callable[[Event], bool] = never, *, seen: str | int = ""
) -> list[Event]:
    """What a stream gives until `last`, or to its end; `seen` is the last id that the client has."""
    headers = {"Last-Event-ID": str(seen)} if seen != "" else {}
    with served.client().stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = parse(answer.iter_lines())
        found = []
        for event in events:
            found.append(event)
            if last(event):
                break
    return found


def numbered(number: int) -> Callable[[Event], bool]:
    return lambda event: int(event["id"]) >= number


def record(context: Context, experiment: Experiment, path: str, state: str = "pending") -> str:
    """An artifact in the catalog only."""
    artifact = Artifact(
        artifact_id=f"art_{new_ulid()}",
        experiment_id=experiment.experiment_id,
        path=path.encode(),
        state=ArtifactState(state),
    )
    context.catalog.record_artifacts(experiment.experiment_id, [artifact])
    return artifact.artifact_id


def test_tells_what_has_changed_and_of_what(served: Served) -> None:
    before = served.context.catalog.last_change()
    run, [experiment] = make_run(served.context, "told", ["running"])
    artifact = keep(served.context, experiment, b"a/\xff.txt", b"hello")
    finish(served.context, experiment)
    last = served.context.catalog.last_change()
    events = follow(served, f"/v1/events?after={before}", numbered(last))
    assert [event["event"] for event in events] == ["artifact", "experiment"]
    told, state = (event["data"] for event in events)
    assert (told["kind"], told["id"], told["run_id"]) == ("artifact", artifact.artifact_id, run.run_id)
    assert told["artifact"] == artifact.to_json("told-exp0")
    assert (state["change"], state["run_id"], state["id"]) == (last, run.run_id, experiment.experiment_id)
    assert state["experiment"]["state"] == "completed"
    assert state["experiment"]["artifacts"] == 1


def test_the_deleted_is_told_as_such(served: Served) -> None:
    run, [experiment] = make_run(served.context, "gone", ["completed"])
    keep(served.context, experiment, b"a", b"a")
    before = served.context.catalog.last_change()
    served.context.catalog.begin_delete([experiment.experiment_id])
    events = follow(served, f"/v1/events?after={before}", numbered(served.context.catalog.last_change()))
    assert {(event["event"], event["data"]["id"]) for event in events} == {
        ("experiment_deleted", experiment.experiment_id),
        ("run_deleted", run.run_id),
    }
    everything = follow(served, "/v1/events", numbered(served.context.catalog.last_change()))
    assert not any(event["data"].get("run_id") == run.run_id for event in everything)


def test_only_what_is_asked_for(served: Served) -> None:
    before = served.context.catalog.last_change()
    _, [other] = make_run(served.context, "not-asked-for", ["running"])
    run, [experiment] = make_run(served.context, "asked-for", ["running"])
    for one in (other, experiment):
        keep(served.context, one, b"a", b"a")
    finish(served.context, experiment)
    last = served.context.catalog.last_change()
    path = f"/v1/events?after={before}&run=asked-for&kind=experiment&kind=run_deleted"
    [event] = follow(served, path, numbered(last))
    assert event["data"]["run_id"] == run.run_id
    assert served.get("/v1/events?kind=other").status_code == 422
    assert served.get("/v1/events?run=unknown").status_code == 404
    assert served.get("/v1/events?after=-1").status_code == 422


def test_the_last_id_wins_and_one_of_another_catalog_means_everything(served: Served) -> None:
    make_run(served.context, "resumed", ["running", "running"])
    last = served.context.catalog.last_change()
    [event] = follow(served, "/v1/events?after=0", numbered(last), seen=last - 1)
    assert int(event["id"]) == last
    all_there_is = [number for number, _, _ in served.context.catalog.changes(0)]
    events = follow(served, f"/v1/events?after={last + 1000}", numbered(last))
    assert [int(event["id"]) for event in events] == all_there_is


def test_without_a_key_there_is_nothing(served: Served) -> None:
    _, [experiment] = make_run(served.context, "closed", ["running"])
    for path in ("/v1/events", f"/v1/experiments/{experiment.name}/events"):
        answer = served.client(None).get(path)
        assert (answer.status_code, answer.json()) == (403, {"detail": "Invalid credentials"})
    assert served.client(Role.READ, user="ann").get("/v1/experiments/nothing/events").status_code == 404


# ------------------------------------------------------------------------------------------------------- nothing missed


def test_a_follower_that_comes_and_goes_misses_nothing_while_a_run_writes(served: Served) -> None:
    """It takes a few events, leaves, comes again with the last number. What it has seen is all that the catalog has, and
    of each thing the last it saw is what is true."""
    _, experiments = make_run(served.context, "written", ["running"] * 3)
    start = served.context.catalog.last_change()
    stop = threading.Event()

    def write() -> None:
        for i in range(WRITES):
            one = experiments[i % 3]
            art = record(served.context, one, f"file-{i}", "growing")
            if i % 5 == 0:
                served.context.catalog.record_artifacts(one.experiment_id, [], forget=[art])
        for one in experiments:
            finish(served.context, one)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[Event] = []
    at = start
    try:
        while not stop.is_set() or at < served.context.catalog.last_change():
            part = follow(served, "/v1/events", lambda _: True, seen=at)
            seen += part
            at = int(part[-1]["id"])
    finally:
        writer.join()
    numbers = [int(event["id"]) for event in seen]
    assert numbers == sorted(set(numbers))
    assert {number for number, _, _ in served.context.catalog.changes(start)} <= set(numbers)
    newest = {event["data"]["id"]: event["data"] for event in seen}
    for one in experiments:
        assert newest[one.experiment_id]["experiment"]["state"] == "completed"
        assert newest[one.experiment_id]["experiment"]["growing"] == 16


@asynccontextmanager
async def stream(client: httpx.AsyncClient, path: str) -> AsyncIterator[AsyncIterator[int]]:
    """The ids of a stream."""
    async with client.stream("GET", path) as answer:
        assert answer.status_code == 200

        async def ids() -> AsyncIterator[int]:
            async for line in answer.aiter_lines():
                if line.startswith("id: "):
                    yield int(line[4:])

        yield ids()


def test_two_hundred_followers_each_see_every_number_once_and_in_order(served: Served) -> None:
    """Half of them begin before the writing, half of them in its midst."""
    _, [experiment] = make_run(served.context, "crowd", ["running"])
    start = served.context.catalog.last_change()
    halfway, begun = threading.Event(), threading.Barrier(2)

    def write() -> None:
        begun.wait(60)
        for i in range(WRITES):
            record(served.context, experiment, f"file-{i}")
            if i == WRITES // 2:
                halfway.set()
        finish(served.context, experiment)

    async def everything() -> list[list[int]]:
        limits = httpx.Limits(max_connections=None)
        headers = {"x-api-key": served.key(Role.READ)}
        async with httpx.AsyncClient(
            base_url=served.url, headers=headers, limits=limits, timeout=60
        ) as client:
            ready = asyncio.Semaphore(0)

            async def one() -> list[int]:
                numbers: list[int] = []
                async with stream(client, f"/v1/events?after={start}") as ids:
                    ready.release()
                    async for number in ids:
                        numbers.append(number)
                        if number >= start + 2 * WRITES + 1:  # what `finish` takes
                            return numbers
                raise AssertionError(f"ended at {numbers[-1:]}")

            first = [asyncio.create_task(one()) for _ in range(FOLLOWERS // 2)]
            for _ in first:
                await ready.acquire()
            await asyncio.to_thread(begun.wait, 60)
            assert await asyncio.to_thread(halfway.wait, 60)
            second = [asyncio.create_task(one()) for _ in range(FOLLOWERS // 2)]
            return list(await asyncio.gather(*first, *second))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        followers = asyncio.run(everything())
    finally:
        writer.join()
    there = {number for number, _, _ in served.context.catalog.changes(start)}
    assert len(followers) == FOLLOWERS
    for numbers in followers:
        assert all(one < following for one, following in itertools.pairwise(numbers))
        assert there <= set(numbers)


def memory_of(process: int) -> int:
    """Resident bytes."""
    [line] = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "VmRSS" in line]
    return int(line.split()[1]) * 1024


def threads_of(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/task"))


def test_who_does_not_read_costs_nothing_and_holds_nobody_up(own_server: Served) -> None:
    """Followers that ask and never read, while megabytes of events are written: memory and threads stay, and one who does
    read gets everything."""
    _, [experiment] = make_run(own_server.context, "slow", ["running"])
    address = urlsplit(own_server.url)
    key = own_server.key(Role.READ)
    head = f"GET /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nx-api-key: {key}\r\n\r\n".encode()
    sleepers = []
    for _ in range(30):
        sleeper = socket.create_connection((address.hostname or "", address.port or 0))
        sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleeper.sendall(head)
        assert sleeper.recv(12) == b"HTTP/1.1 200"
        sleepers.append(sleeper)

    def write(count: int) -> int:
        """So many artifacts, of about 1 kB each as an event; the last change."""
        many = [
            Artifact(
                artifact_id=f"art_{new_ulid()}",
                experiment_id=experiment.experiment_id,
                path=os.urandom(400).hex().encode(),
                state=ArtifactState.PENDING,
            )
            for _ in range(count)
        ]
        own_server.context.catalog.record_artifacts(experiment.experiment_id, many)
        return own_server.context.catalog.last_change()

    process = own_server.process.pid
    follow(own_server, "/v1/events", numbered(write(12_000)))  # what is kept for all is full then
    memory, threads = memory_of(process), threads_of(process)
    start = own_server.context.catalog.last_change()
    last = write(12_000)
    events = follow(own_server, f"/v1/events?after={start}", numbered(last))
    assert len(events) == 12_001
    assert memory_of(process) < memory + 60e6  # were it kept for each of them, 30 × 12 MB
    assert threads_of(process) <= max(threads, 50)
    for sleeper in sleepers:
        sleeper.close()


def test_streams_end_with_the_server(own_server: Served) -> None:
    _, [experiment] = make_run(own_server.context, "ending", ["running"])
    paths = ["/v1/events", f"/v1/experiments/{experiment.name}/events"]
    with (
        own_server.client().stream("GET", paths[0]) as one,
        own_server.client(Role.READ).stream("GET", paths[1]) as other,
    ):
        streams = [one.iter_lines(), other.iter_lines()]
        for lines in streams:
            assert next(parse(lines))["event"] == "experiment"
        assert own_server.end() == 0
        for lines in streams:
            assert not list(parse(lines))  # whole to its end: a cut would raise


# ------------------------------------------------------------------------------------------------------- one experiment


def test_an_experiment_from_its_start_to_its_end(served: Served) -> None:
    _, [experiment] = make_run(served.context, "lived", ["queued"])
    earlier = keep(served.context, experiment, b"before", b"1")
    with served.client().stream("GET", f"/v1/experiments/{experiment.name}/events") as answer:
        events = parse(answer.iter_lines())
        first, state = next(events), next(events)
        assert first["data"]["artifact"] == earlier.to_json("lived-exp0")
        assert state["data"]["experiment"]["state"] == "queued"
        served.context.catalog.update_experiment(experiment.experiment_id, state=State.RUNNING)
        until(events, lambda event: event["data"].get("experiment", {}).get("state") == "running")
        print_to_journal(served.context, experiment, b"epoch 1\nepo")
        [said] = until(events, lambda event: event["event"] == "output")
        assert said["data"] == {"kind": "output", "position": 8, "text": "epoch 1\n"}
        later = keep(served.context, experiment, b"<b>.txt", b"2")
        told = until(events, lambda event: event["event"] == "artifact")[-1]
        assert told["data"]["artifact"] == later.to_json("lived-exp0")
        print_to_journal(served.context, experiment, b"ch 2\xff")
        move_log_to_store(served.context, experiment)
        finish(served.context, experiment)
        rest = list(events)
    assert [event["event"] for event in rest if event["event"] != "experiment"] == ["output", "end"]
    assert "".join(event["data"]["text"] for event in rest if event["event"] == "output") == "epoch 2\ufffd"
    assert rest[-2]["data"].get("experiment", {"state": "completed"})["state"] == "completed"
    again = served.get(f"/v1/experiments/{experiment.name}/events", headers={"Last-Event-ID": rest[-1]["id"]})
    assert again.status_code == 204  # a browser comes no more


@pytest.mark.parametrize("seen", ["", "0-0", "nonsense"])
def test_one_that_is_final_is_told_whole(served: Served, seen: str) -> None:
    name = f"final-{seen or 'none'}"
    _, [experiment] = make_run(served.context, name, ["running"])
    paths = {f"file-{i:04}" for i in range(700)}  # more than one page
    many = [
        Artifact(
            artifact_id=f"art_{new_ulid()}",
            experiment_id=experiment.experiment_id,
            path=path.encode(),
            state=ArtifactState.PENDING,
        )
        for path in sorted(paths)
    ]
    served.context.catalog.record_artifacts(experiment.experiment_id, many)
    text = "".join(f"line {i}\n" for i in range(60_000))
    print_to_journal(served.context, experiment, text.encode())
    move_log_to_store(served.context, experiment)
    finish(served.context, experiment)
    events = follow(served, f"/v1/experiments/{experiment.experiment_id}/events", seen=seen)
    assert {event["data"]["artifact"]["path"] for event in events if event["event"] == "artifact"} == paths
    assert "".join(event["data"]["text"] for event in events if event["event"] == "output") == text
    assert events[-1]["event"] == "end"


def test_an_experiment_goes_on_from_the_last_id(served: Served) -> None:
    _, [experiment] = make_run(served.context, "cut-off", ["running"])
    keep(served.context, experiment, b"one", b"1")
    print_to_journal(served.context, experiment, b"first\n")
    path = f"/v1/experiments/{experiment.name}/events"
    seen = follow(served, path, lambda event: event["event"] == "output")
    print_to_journal(served.context, experiment, b"second\n")
    keep(served.context, experiment, b"two", b"2")
    move_log_to_store(served.context, experiment)
    finish(served.context, experiment)
    rest = follow(served, path, seen=seen[-1]["id"])
    assert [e["data"]["artifact"]["path"] for e in rest if e["event"] == "artifact"] == ["two"]
    assert "".join(e["data"]["text"] for e in rest if e["event"] == "output") == "second\n"


def test_the_deletion_of_an_experiment_ends_its_stream(served: Served) -> None:
    _, [experiment] = make_run(served.context, "dropped", ["running"])
    with served.client().stream("GET", f"/v1/experiments/{experiment.name}/events") as answer:
        events = parse(answer.iter_lines())
        assert next(events)["event"] == "experiment"
        served.context.catalog.begin_delete([experiment.experiment_id])
        assert [event["event"] for event in events][-1] == "experiment_deleted"
