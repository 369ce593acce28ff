"""The record of an experiment comes back as it was written, and nothing in it is believed that could do harm."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from typing import Any

import pytest

from gridkeep.errors import GridError, ObjectMissing, StoreError
from gridkeep.model import Experiment, Run, RunSpec, State, new_ulid
from gridkeep.settings import Home
from gridkeep.stores.keys import experiment_key
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor import record


@pytest.fixture
def home(tmp_path):
    home = Home(str(tmp_path / "home"))
    (tmp_path / "home/journal").mkdir(parents=True)
    return home


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "store"), create=True)


def a_run() -> Run:
    spec = RunSpec(
        argv=["python", "a\udcff.py"], display="é \udcff", workdir="sub", root="/p", memory="4GiB",
        timeout=1.5, linked=["data"], on_build=["make"], env_names=["A"],
    )  # fmt: skip
    return Run(
        run_id=f"wr_{new_ulid()}", name="my-run", kind="script", cluster="local", created_by="me",
        created_at=1700000000.1234567, spec=spec, parent=new_ulid(),
    )  # fmt: skip


def an_experiment(run: Run, index: int = 0, **more: Any) -> Experiment:
    one = Experiment(
        experiment_id=new_ulid(), run_id=run.run_id, run=run.name, index=index, params={"lr": [0.1, None]},
        args=["--lr", "\udcff"], command="train.py", created_at=run.created_at,
    )  # fmt: skip
    return replace(one, **more)


ENDED: dict[str, Any] = {
    "state": State.FAILED, "outcome": "exit", "reason": "exit code 3", "exit_code": 3, "attempt": 2,
    "started_at": 1700000001.00000012, "ended_at": 1700000002.5, "finished_at": 1700000003.9999996,
    "capture": {"mode": "c", "lost": 0},
}  # fmt: skip


@pytest.mark.parametrize("more", [{}, ENDED])
def test_from_store_and_journal_it_comes_back_exactly(store, home, more):
    run = a_run()
    one = an_experiment(run, 3, **more)
    record.put_record(store, run, one)
    assert record.read_record(store, one.experiment_id) == (run, one)
    os.mkdir(home.journal(one.experiment_id))
    assert record.kept_record(home, one.experiment_id) is None
    record.keep_record(home, run, one)
    assert record.kept_record(home, one.experiment_id) == (run, one)


def test_a_submission_comes_back_with_what_has_ended(home):
    run = a_run()
    experiments = [an_experiment(run, index) for index in range(3)]
    record.note_ended(home, run.ulid, [experiments[0].experiment_id])  # no journal: nothing happens
    assert record.kept_submission(home, run.ulid) is None
    os.mkdir(home.journal(run.ulid))
    record.keep_submission(home, "file:///s", run, experiments)
    assert record.kept_submission(home, run.ulid) == record.Submitted(
        "file:///s", run, experiments, frozenset()
    )
    for one in experiments[:2]:
        record.note_ended(home, run.ulid, [one.experiment_id])
    found = record.kept_submission(home, run.ulid)
    assert found is not None and found.ended == {one.experiment_id for one in experiments[:2]}


def test_a_record_without_exact_times_is_read_too(store):
    run = a_run()
    one = an_experiment(run, **ENDED)
    record.put_record(store, run, one)
    shape = json.loads(b"".join(store.get(experiment_key(one.experiment_id))))
    for later in ("times", "submitted", "parent"):
        del shape[later]
    store.put(experiment_key(one.experiment_id), io.BytesIO(json.dumps(shape).encode()))
    old_run, old = record.read_record(store, one.experiment_id)
    assert (old.to_json(), old_run.name, old_run.spec) == (one.to_json(), run.name, run.spec)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "../../etc"},
        {"run": "a-exp0"},
        {"run_id": "wr_../../../../../../../../etc"},
        {"run_id": 7},
        {"experiment_id": "0" * 26},
        {"index": -1},
        {"index": "x"},
        {"state": "sleeping"},
        {"format": 2},
        {"spec": {}},
        {"spec": []},
        {"params": 3},
        {"times": {}},
    ],
)
def test_a_damaged_record_is_refused(store, change):
    run = a_run()
    one = an_experiment(run)
    record.put_record(store, run, one)
    key = experiment_key(one.experiment_id)
    shape = json.loads(b"".join(store.get(key))) | change
    store.put(key, io.BytesIO(json.dumps(shape).encode()))
    with pytest.raises(StoreError, match="damaged"):
        record.read_record(store, one.experiment_id)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"3"])
def test_what_is_no_record_is_refused(store, home, data):
    ulid = new_ulid()
    with pytest.raises(ObjectMissing):
        record.read_record(store, ulid)
    store.put(experiment_key(ulid), io.BytesIO(data))
    with pytest.raises(StoreError, match="damaged"):
        record.read_record(store, ulid)
    os.mkdir(home.journal(ulid))
    for name, read in (("experiment.json", record.kept_record), ("run.json", record.kept_submission)):
        with open(os.path.join(home.journal(ulid), name), "wb") as file:
            file.write(data)
        if data == b"null":
            assert read(home, ulid) is None
            continue
        with pytest.raises(GridError, match="damaged"):
            read(home, ulid)
