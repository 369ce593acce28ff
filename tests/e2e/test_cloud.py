"""Runs with their files in a bucket, on a real S3 server: the same promise, and what people do who have only the bucket."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time

import pytest

from tests.e2e.clouds import LARGE, CloudBucket, without_credentials
from tests.e2e.support import (
    WORKS_ON,
    check_work,
    contents,
    downloaded,
    engines,
    experiment,
    explained,
    kill,
    kill_everything,
    listed,
    ran,
    save,
    submitted,
    supervisors,
)
from tests.services import missing
from tests.support import Grid, processes_of, wait_for

pytestmark = pytest.mark.xdist_group("cloud")

PLAIN = [
    "a b.txt",
    "100%.txt",
    "%41",
    "x&y",
    "données/é.txt",
    "日本/語",
    "plus+",
    "q?#[]",
    "semi;colon'\"",
    "*~",
]
ODD = [b"a\nb", b"bad\xff", b"back\\slash", b"n" * 250]
WRITES = rf"""
import os
for name in {PLAIN!r}:
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    open(name, "w").write(name)
for name in {ODD!r}:
    open(name, "wb").write(name)
open("empty", "w"); open("gone", "w").write("gone"); os.remove("gone")
print("said")
"""
WRITTEN = {name.encode(): name.encode() for name in PLAIN} | {name: name for name in ODD} | {b"empty": b""}
WAITS = """
import os, time
open("before", "w").write("before")
while not os.path.exists(os.environ["GO"]):
    time.sleep(0.02)
open("after", "w").write("after")
"""


WRONG = "no-such-secret"


def wrong_key(grid: Grid) -> Grid:
    return grid.with_env(AWS_SECRET_ACCESS_KEY=WRONG)


def places(grid: Grid, name: str) -> list[str]:
    """What `--bucket_path` points at, an experiment a line."""
    return re.findall(r"(s3://.*/) │", grid("artifacts", "--bucket_path", name).stdout)


def key_prefix(grid: Grid, name: str, bucket: CloudBucket) -> str:
    """Where in the bucket an experiment's files lie."""
    (place,) = places(grid, name)
    return place.removeprefix(f"s3://{bucket.name}/")


def rest(grid: Grid) -> None:
    """Until no process of the home is left."""
    wait_for(lambda: not processes_of(grid.home) or None, what="an idle home")


# --------------------------------------------------------------------------------------------------------- the promise


def test_files_of_any_name_go_to_the_bucket_and_come_back(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    one = ran(able, WRITES, name="r")
    assert (one["state"], one["artifacts"], one["missing"]) == ("completed", len(WRITTEN), 0)
    assert able.json("status", "r", "--global")[0]["name"] == "r-exp0"
    assert listed(able, "r")["gone"]["state"] == "removed"
    assert downloaded(able, "r-exp0") == WRITTEN
    for name in (b"100%.txt", "données/é.txt".encode(), b"bad\xff", b"empty"):
        assert able("cat", b"r-exp0:" + name).stdout_bytes == WRITTEN[name]
    assert "said" in able("logs", "r").stdout
    assert f"{len(WRITTEN)} of {len(WRITTEN)} verified" in able("verify", "--deep", "r").stdout
    found = bucket.objects()
    prefix = f"team/x/experiments/{one['experiment_id']}/"
    assert {key.removeprefix(prefix) for key in found if "/_enc/" not in key} == {
        *(f"artifacts/{name}" for name in [*PLAIN, "empty"]),
        "output.log",
        "experiment.json",
        "manifest.jsonl",
    }
    assert len([key for key in found if key.startswith(f"{prefix}artifacts/_enc/")]) == len(ODD)
    assert bucket.read(f"{prefix}artifacts/données/é.txt") == "données/é.txt".encode()
    assert bucket.uploads() == []
    ended = wrong_key(able)("artifacts", "r", code=1).stderr
    assert "Error: The download ended: The store" in ended and "does not accept the credentials" in ended
    rest(able)
    assert [os.listdir(able.home / part) for part in ("work", "journal")] == [[], []]


def test_the_real_aws_lists_what_the_table_points_at(grid: Grid, bucket: CloudBucket) -> None:
    aws = shutil.which("aws", path="/usr/bin:/usr/local/bin:" + os.environ["PATH"]) or "aws"
    if not os.path.isabs(aws):
        missing("aws: scripts/install-system-packages installs it")
    able = bucket.grid(grid, "té am/100% x&y+~")
    ran(able, WRITES, name="r")
    table = able("artifacts", "--bucket_path", "r", env={"COLUMNS": "20"}).stdout.splitlines()
    (place,) = places(able, "r")
    ulid = experiment(able, "r-exp0")["experiment_id"]
    assert place == f"s3://{bucket.name}/té am/100% x&y+~/experiments/{ulid}/artifacts/"
    assert table[1:4:2] == [
        f"┃ experiment name ┃ {'bucket path to artifacts':>{len(place)}} ┃",
        f"│ r-exp0          │ {place} │",
    ]
    assert able("artifacts", "--bucket_path", "r-exp0").stdout.splitlines() == table
    done = subprocess.run(
        [aws, "--endpoint-url", bucket.service.endpoint, "s3", "ls", "--recursive", place],
        env={**able.env, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = {
        line[31:].removeprefix(place.removeprefix(f"s3://{bucket.name}/"))
        for line in done.stdout.splitlines()
    }
    assert {name for name in names if not name.startswith("_enc/")} == {*PLAIN, "empty"}


def test_a_sweep_and_a_file_that_grows(grid: Grid, bucket: CloudBucket) -> None:
    go = grid.cwd.parent / "go"
    able = bucket.grid(grid, "").with_env(GO=str(go), GRIDKEEP_GROWING_INTERVAL="0.3s")
    script = """
    import os, sys, time
    log = open("grows", "w")
    while not os.path.exists(os.environ["GO"]):
        log.write(sys.argv[2] * 1000); log.flush(); time.sleep(0.02)
    """
    submitted(able, script, "--x", "[1,2]", options=("--parallel", "2"), name="s")
    for i in range(2):  # a copy against crashes, and a true beginning of it
        wait_for(lambda i=i: downloaded(able, f"s-exp{i}").get(b"grows"))  # type: ignore[misc]
    done = able("artifacts", "s")
    assert "s-exp0: grows: still growing" in done.stderr
    go.touch()
    for i, one in enumerate(able.finished("s")):
        assert one["state"] == "completed"
        content = downloaded(able, f"s-exp{i}")[b"grows"]
        assert content and content == str(i + 1).encode() * len(content)
    assert len(places(able, "s")) == 2
    able("verify", "--deep", "s")


def test_a_large_file_comes_back_after_its_download_was_killed(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    script = f"import random; open('large', 'wb').write(random.Random(1).randbytes(1 << 20) * {LARGE >> 20})"
    one = ran(able, script, name="r")
    assert one["bytes"] == LARGE
    target = able.cwd.parent / "target"
    part = target / "r-exp0" / "large.partial"
    for _ in range(5):
        download = able.start("artifacts", "r-exp0", "--download_dir", target)
        while download.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.001)
        download.kill()
        download.wait()
        if part.exists():
            break
        shutil.rmtree(target)
    assert part.stat().st_size > 0, "every download was faster than we"
    inode = part.stat().st_ino
    done = able("artifacts", "r-exp0", "--download_dir", target)
    assert "1 file, 69.2 MB" in done.stderr
    assert (target / "r-exp0" / "large").stat().st_ino == inode
    assert sorted(contents(target)) == [b"r-exp0/large"]
    able("verify", "--deep", "r")
    damaged = f"{key_prefix(able, 'r', bucket)}large"
    bucket.write(damaged, b"x" * LARGE)
    assert "bytes: large" in able("verify", "--deep", "r", code=1).stdout
    (target / "r-exp0" / "large").unlink()
    done = able("artifacts", "r-exp0", "--download_dir", target, code=1)
    assert "large: its bytes in the store are not those that were recorded" in done.stderr
    assert contents(target) == {}


def test_everything_is_killed_and_goes_on(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    submitted(able, WORKS_ON, name="w")
    wait_for(lambda: listed(able, "w").get("3.bin", {}).get("state") == "stored" or None)
    kill(engines(able) + supervisors(able))
    check_work(able, "w")
    assert bucket.uploads() == []


# -------------------------------------------------------------------------------------------------------- credentials


def test_no_secret_lies_anywhere_but_in_the_journal_of_the_run(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    go = grid.cwd.parent / "go"
    submitted(able.with_env(GO=str(go)), WAITS, name="r")
    wait_for(lambda: listed(able, "r").get("before", {}).get("state") == "stored" or None)
    secret = bucket.service.environ["AWS_SECRET_ACCESS_KEY"].encode()
    holding = {path for path, content in contents(able.home).items() if secret in content}
    names = {b"environ.json", b"credentials.json", b"launch"}  # the last is for the shim
    assert {os.path.basename(path) for path in holding} == names
    for path in holding:
        assert (able.home / os.fsdecode(path)).stat().st_mode & 0o777 == 0o600
    go.touch()
    able.finished("r")
    rest(able)
    assert not [path for path, content in contents(able.home).items() if secret in content]
    assert not [key for key in bucket.objects() if secret in bucket.read(key)]


def test_the_credentials_are_the_runs_whoever_started_the_engine(grid: Grid, bucket: CloudBucket) -> None:
    go = grid.cwd.parent / "go"
    able = bucket.grid(grid)
    other = without_credentials(able.with_env(GO=str(go), GRIDKEEP_CLUSTER="local"))
    submitted(other, WAITS, name="first")  # its engine knows no credentials
    (engine,) = wait_for(lambda: engines(able) or None)
    script = "import os; open('f', 'w').write(os.environ['AWS_ACCESS_KEY_ID'])"
    ran(able, script, name="r")
    # What `--env` gives is the script's.
    ran(able, script, options=("--env", "AWS_ACCESS_KEY_ID=mine"), name="e")
    assert engines(able) == [engine]
    go.touch()
    assert downloaded(able, "r-exp0") == {b"f": bucket.service.environ["AWS_ACCESS_KEY_ID"].encode()}
    assert downloaded(able, "e-exp0") == {b"f": b"mine"}


def test_credentials_that_end_while_the_run_goes_on_are_renewed(grid: Grid, bucket: CloudBucket) -> None:
    go = grid.cwd.parent / "go"
    able = bucket.grid(grid).with_env(GO=str(go), GRIDKEEP_RETRY_MAX="1s")
    submitted(able, WAITS, name="r")
    wait_for(lambda: listed(able, "r").get("before", {}).get("state") == "stored" or None)
    refused = wrong_key(able)("sync", "r")
    assert "r-exp0: is running, and syncing as it goes." in refused.stdout
    assert "The credentials of this shell were not handed on, those of the run stay." in refused.stderr
    (kept,) = able.home.glob("journal/*/credentials.json")
    text = kept.read_text()
    assert WRONG not in text
    kept.write_text(text.replace(bucket.service.environ["AWS_SECRET_ACCESS_KEY"], WRONG))
    go.touch()
    waiting = wait_for(lambda: experiment(able, "r-exp0")["waiting_for"])
    assert "does not accept the credentials" in waiting
    assert experiment(able, "r-exp0")["state"] in ("running", "syncing")
    renewed = able("sync", "r")
    assert "The store of cloud is used with the credentials of this shell from now on." in renewed.stderr
    (one,) = able.finished("r")
    assert (one["state"], one["waiting_for"], one["missing"]) == ("completed", None, 0)
    assert downloaded(able, "r-exp0") == {b"before": b"before", b"after": b"after"}


# ----------------------------------------------------------------------------------------------- what cannot be used


def test_a_store_that_cannot_be_used_is_refused_before_the_run(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    save(able, "open('f', 'w')")
    able("cluster", "add", "nowhere", "--store", "s3://not-there", "--no-check")
    wrong, reader = (
        wrong_key(able),
        able.with_env(AWS_ACCESS_KEY_ID="reader", AWS_SECRET_ACCESS_KEY="readersecret"),
    )
    for refused, sentence in (
        (wrong("run", "script.py", code=1), "does not accept the credentials"),
        (reader("run", "script.py", code=1), "The credentials give no right to write to"),
        (without_credentials(able)("run", "script.py", code=1), "No credentials for"),
        (able("run", "--cluster", "nowhere", "script.py", code=1), "There is no bucket"),
    ):
        assert sentence in explained(refused)
    assert (able.json("status"), able.json("history")) == ([], [])
    assert [os.listdir(able.home / part) for part in ("work", "journal")] == [[], []]
    assert bucket.objects() == {}


def test_a_store_that_is_away_queues_the_run(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    away = able.with_env(AWS_ENDPOINT_URL="http://127.0.0.1:9", GRIDKEEP_RETRY_MAX="1s")
    began = time.monotonic()
    done = away("run", "--name", "r", save(able, "open('f', 'w').write('x')"))
    assert "The store cannot be used now, and the run's files will wait for it" in done.stderr
    assert time.monotonic() - began < 30
    assert wait_for(lambda: experiment(able, "r-exp0")["waiting_for"], 60)
    assert experiment(able, "r-exp0")["state"] == "syncing"
    assert "used with the credentials of this shell" in able("sync", "r").stderr  # its address is right, too
    (one,) = able.finished("r")
    assert one["state"] == "completed"


def test_doctor_and_check_say_what_is_wrong(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    shown = {one["name"]: one for one in able.json("doctor")}
    assert shown["store cloud"]["level"] == "ok"
    assert shown["store cloud"]["uri"] == f"s3://{bucket.name}/team/x/"
    able("cluster", "add", "nowhere", "--store", "s3://not-there", "--no-check")
    assert {one["name"]: one["ok"] for one in able.json("cluster", "check", code=1)} == {
        "cloud": True,
        "local": True,
        "nowhere": False,
    }
    assert "nowhere: There is no bucket" in able("cluster", "check", "nowhere", code=1).stdout
    refused = able("cluster", "add", "other", "--store", "s3://not-there", code=1)
    assert "There is no bucket" in explained(refused)
    assert "`--no-check` adds it all the same" in refused.stderr
    assert [one["name"] for one in able.json("cluster", "list")] == ["cloud", "local", "nowhere"]
    assert bucket.objects() == {}, "the probe was left"


# ------------------------------------------------------------------------------------------------ deleting, rebuilding


def test_deleting_cleans_the_bucket_and_touches_nothing_else(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    one = ran(able, WRITES, name="r")
    ran(able, "open('kept', 'w').write('kept')", name="k")
    ulid = one["experiment_id"]
    others = [
        f"team/x/experiments/{ulid}",
        f"team/x/experiments/{ulid}x/artifacts/f",
        f"team/x/{ulid}/f",
        f"experiments/{ulid}/artifacts/f",
        "elsewhere",
    ]
    for key in others:
        bucket.write(key, b"mine")
    kept = {key for key in bucket.objects() if not key.startswith(f"team/x/experiments/{ulid}/")}
    assert "does not accept the credentials" in wrong_key(able)("delete", "--yes", "run", "r", code=1).stderr
    assert able.json("history"), "hidden, although nothing could be deleted"
    two = [able.start("delete", "--yes", "run", "r") for _ in range(2)]
    assert 0 in [process.wait(60) for process in two]
    assert set(bucket.objects()) == kept >= set(others)
    assert downloaded(able, "k-exp0") == {b"kept": b"kept"}
    assert "There is no Run or experiment named r" in able("delete", "--yes", "r", code=1).stderr
    assert "has 1 run" in explained(able("cluster", "delete", "cloud", code=1))
    able("delete", "--yes", "run", "k")
    able("cluster", "delete", "cloud")
    assert set(bucket.objects()) == set(others)


def test_a_deletion_goes_on_after_a_crash(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    ran(able, "for i in range(1500): open(str(i), 'w').write('x')", name="r")
    rest(able)
    deletion = able.start("delete", "--yes", "run", "r")
    wait_for(lambda: not able.json("history", env={"GRIDKEEP_CLUSTER": "local"}) or None)
    deletion.kill()
    deletion.wait()
    able("status")  # whoever looks next
    wait_for(lambda: not bucket.objects() or None, 60)
    rest(able)


def test_a_lost_catalog_comes_back_from_the_bucket_alone(grid: Grid, bucket: CloudBucket) -> None:
    able = bucket.grid(grid)
    ran(able, WRITES, name="whole")
    submitted(able, WORKS_ON, name="cut")
    wait_for(lambda: listed(able, "cut").get("9.bin", {}).get("state") == "stored" or None)
    kill_everything(able)
    before = able.json("artifacts", "whole")
    stored = {key for key in bucket.objects() if "/artifacts/" in key}
    kill_everything(able) if processes_of(able.home) else None
    shutil.rmtree(able.home)
    fresh = able.with_env(GRIDKEEP_CLUSTER="local")
    uri = f"s3://{bucket.name}/team/x/"
    done = fresh("catalog", "rebuild", uri)
    assert "whole: 1 experiment brought back; 15 files" in done.stdout
    assert fresh.json("artifacts", "whole") == before
    cut = experiment(fresh, "cut-exp0")
    assert (cut["state"], cut["outcome"]) == ("failed", "lost")
    assert 10 <= cut["artifacts"] <= len(stored) - len(WRITTEN)
    (cluster,) = [one for one in fresh.json("cluster", "list") if one["name"] == "cloud"]
    assert (cluster["store"], cluster["runs"]) == (uri.rstrip("/"), 2)
    assert downloaded(fresh, "whole-exp0") == WRITTEN
    assert b"9.bin" in downloaded(fresh, "cut-exp0")
    shown = fresh.json("history"), fresh.json("artifacts", "cut")
    assert "0 experiments brought back" in fresh("catalog", "rebuild", uri).stdout
    assert (fresh.json("history"), fresh.json("artifacts", "cut")) == shown
    endpoint = bucket.service.endpoint
    elsewhere = fresh.with_env(GRIDKEEP_HOME=str(able.home) + "2", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    elsewhere("catalog", "rebuild", uri, "--endpoint", endpoint, "--region", "us-east-1")
    (cluster,) = [one for one in elsewhere.json("cluster", "list") if one["name"] == "cloud"]
    assert (cluster["endpoint"], cluster["region"]) == (endpoint, "us-east-1")
    assert downloaded(elsewhere, "whole-exp0") == WRITTEN


def test_a_run_that_is_under_way_when_the_catalog_is_lost_goes_on(grid: Grid, bucket: CloudBucket) -> None:
    able = grid.with_env(**bucket.service.environ, GRIDKEEP_CLUSTER="cloud")
    place = ("--store", f"s3://{bucket.name}", "--endpoint", bucket.service.endpoint)
    able("cluster", "add", "cloud", *place)
    submitted(able, WORKS_ON, name="w")
    wait_for(lambda: listed(able, "w").get("3.bin", {}).get("state") == "stored" or None)
    for path in able.home.glob("catalog.db*"):
        path.unlink()
    (found,) = [one for one in able.json("doctor", code=None) if one["name"] == "leftovers"]
    assert f"`grid catalog rebuild s3://{bucket.name} --endpoint {bucket.service.endpoint}`" in found["text"]
    able("catalog", "rebuild", f"s3://{bucket.name}", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    check_work(able, "w")
