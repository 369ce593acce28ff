"""Which store a URI opens, with whose credentials, and what it costs those who have none in a cloud."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridkeep.errors import StoreError
from gridkeep.model import Cluster
from gridkeep.stores import open_store
from gridkeep.stores.credentials import AwsCredentials, adopt, azure_config


def cluster(uri: str, **more: str) -> Cluster:
    return Cluster(name="c", engine="local", store=uri, **more)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("uri", "shown", "prefix"),
    [
        ("s3://bucket", "s3://bucket/", ""),
        ("s3://bucket/", "s3://bucket/", ""),
        ("s3://bucket/a/b c/", "s3://bucket/a/b c/", "a/b c/"),
        ("gs://bucket/x", "gs://bucket/x/", "x/"),
        ("az://container/x", "az://container/x/", "x/"),
    ],
)
def test_buckets(uri: str, shown: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    store = open_store(cluster(uri))
    assert (store.uri, store.prefix) == (shown, prefix)


@pytest.mark.parametrize("prefix", ["../x", "a/../b", "a//b", "./a"])
def test_a_prefix_that_could_lead_elsewhere_is_refused(prefix: str) -> None:
    with pytest.raises(StoreError, match="cannot be a key"):
        open_store(cluster(f"s3://bucket/{prefix}"))


def test_an_account_that_is_missing_is_said() -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(cluster("az://container"))


def test_a_certificate_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(StoreError, match="AWS_CA_BUNDLE"):
        open_store(cluster("s3://bucket"))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_who_keeps_files_in_folders_imports_no_cloud(tmp_path: Path) -> None:
    code = f"""
import sys
from gridkeep.model import Cluster
from gridkeep.stores import open_store
open_store(Cluster(name="c", engine="local", store="file://{tmp_path}/store"), create=True).check()
print([name for name in ("obstore", "boto3", "botocore") if name in sys.modules])
"""
    assert run(code).stdout == "[]\n"


@pytest.mark.parametrize("missing", ["obstore", "boto3"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"""
import sys
sys.modules["{missing}"] = None
from gridkeep.errors import StoreError
from gridkeep.model import Cluster
from gridkeep.stores import open_store
try:
    open_store(Cluster(name="c", engine="local", store="s3://bucket"))
except StoreError as error:
    print(error.message, error.hint)
"""
    said = run(code).stdout
    assert missing in said and "pip install 'gridkeep[cloud]'" in said


# --------------------------------------------------------------------------------------------------------- credentials


def test_an_environment_is_adopted_as_far_as_clouds_look_at_it() -> None:
    code = """
import os
from gridkeep.stores.credentials import adopt
adopt({"AWS_PROFILE": "theirs", "HOME": "/home/them", "GRIDKEEP_HOME": "/theirs", "https_proxy": "p"})
names = ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "HOME", "GRIDKEEP_HOME", "https_proxy", "LANG")
print([os.environ.get(name) for name in names])
"""
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": "ours", "GRIDKEEP_HOME": "/ours", "LANG": "C"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert done.stdout == "['theirs', None, '/home/them', '/ours', 'p', 'C']\n"


def test_a_profile_gives_keys_region_and_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(
        "[profile lab]\nregion = eu-north-1\nendpoint_url = https://s3.lab\n"
        'credential_process = echo \'{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "B"}\'\n'
    )
    adopt({**os.environ, "AWS_PROFILE": "lab"})
    try:
        found = AwsCredentials()
        assert (found.region(), found.endpoint()) == ("eu-north-1", "https://s3.lab")
    finally:
        monkeypatch.delenv("AWS_PROFILE")


@pytest.mark.parametrize(
    ("environ", "endpoint", "wanted"),
    [
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": "AccountName=a;AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net"
            },
            None,
            {"account_name": "a", "account_key": "a2V5PT0="},
        ),
        (
            {"AZURE_STORAGE_ACCOUNT": "a", "AZURE_STORAGE_KEY": "k"},
            None,
            {"account_name": "a", "account_key": "k"},
        ),
        (
            {},
            "https://a.blob.core.windows.net",
            {"account_name": "a", "endpoint": "https://a.blob.core.windows.net"},
        ),
        ({}, "http://127.0.0.1:10000/dev", {"account_name": "dev", "endpoint": "http://127.0.0.1:10000/dev"}),
        ({}, None, {}),
    ],
)
def test_ways_to_name_an_account_of_azure(
    environ: dict[str, str], endpoint: str | None, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert azure_config(endpoint) == wanted
