"""The environment that a run's store is opened with: the submitter's, but for `--env`, until newer credentials are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gridkeep.errors import StoreError
from gridkeep.files import write_json
from gridkeep.model import Cluster, new_ulid
from gridkeep.settings import Home, Settings
from gridkeep.supervisor import credentials
from gridkeep.supervisor.prepare import environ_file

SUBMITTED = {"HOME": "/home/u", "AWS_PROFILE": "team", "AWS_REGION": "eu", "HTTPS_PROXY": "http://p"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(str(tmp_path))


@pytest.fixture
def ulid(home: Home) -> str:
    ulid = new_ulid()
    os.makedirs(home.journal(ulid))
    return ulid


def test_what_a_run_was_submitted_with(home: Home, ulid: str) -> None:
    write_json(
        environ_file(home, ulid),
        {**SUBMITTED, **dict.fromkeys(("AWS_PROFILE", "AZURE_CLIENT_ID", "HTTPS_PROXY", "HOME"), "of --env")},
    )
    credentials.keep(home, ulid, SUBMITTED)
    assert credentials.environ_of(home, ulid) == SUBMITTED
    (kept,) = [name for name in os.listdir(home.journal(ulid)) if name.startswith("credentials")]
    assert os.stat(os.path.join(home.journal(ulid), kept)).st_mode & 0o777 == 0o600


def test_newer_ones_take_the_place_of_all_that_were_kept(home: Home, ulid: str) -> None:
    write_json(environ_file(home, ulid), SUBMITTED)
    credentials.keep(home, ulid, SUBMITTED)
    credentials.keep(
        home, ulid, {"HOME": "/elsewhere", "AWS_ACCESS_KEY_ID": "k", "GOOGLE_APPLICATION_CREDENTIALS": "f"}
    )
    assert credentials.environ_of(home, ulid) == {
        "HOME": "/elsewhere",
        "AWS_ACCESS_KEY_ID": "k",
        "GOOGLE_APPLICATION_CREDENTIALS": "f",
    }


def test_a_run_of_the_version_before_has_its_environment_only(home: Home, ulid: str) -> None:
    write_json(environ_file(home, ulid), SUBMITTED)
    assert credentials.environ_of(home, ulid) == SUBMITTED


def test_a_store_that_cannot_be_opened_says_so_when_it_is_used(home: Home, ulid: str) -> None:
    """So a supervisor waits for it, as for one that is away."""
    nonsense = Cluster(name="c", engine="local", store="ftp://bucket/team/x")
    store = credentials.open_run_store(home, Settings(), nonsense, ulid)
    assert (store.uri, store.prefix) == ("ftp://bucket/team/x/", "team/x/")
    with pytest.raises(StoreError):
        store.head("key")
    with pytest.raises(StoreError):
        list(store.list("experiments/"))
