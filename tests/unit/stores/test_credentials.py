"""Where credentials come from that no shell holds: the role of a container, or of a machine, and a token of its identity."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gridkeep.stores.credentials import AwsCredentials, adopt, of_clouds

GIVEN = {"access_key_id": "role", "secret_access_key": "role's", "token": "a token"}
EXPIRES = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
ROLE = {
    "Code": "Success",
    "AccessKeyId": "role",
    "SecretAccessKey": "role's",
    "Token": "a token",
    "Expiration": EXPIRES,
}
ASSUMED = f"""<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>role</AccessKeyId><SecretAccessKey>role's</SecretAccessKey><SessionToken>a token</SessionToken>
<Expiration>{EXPIRES}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""
ANSWERS = {
    "/latest/api/token": "a session",
    "/latest/meta-data/iam/security-credentials/": "worker",
    "/latest/meta-data/iam/security-credentials/worker": json.dumps(ROLE),
    "/container": json.dumps(ROLE),
    "/": ASSUMED,
}


@pytest.fixture
def service() -> Iterator[str]:
    """What gives out such credentials, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = ANSWERS[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_PUT = do_POST = answer

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("way", ["container", "machine", "identity"])
def test_roles(way: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in of_clouds(os.environ).keys() - {"PATH"}:
        monkeypatch.delenv(name)
    (tmp_path / "identity").write_text("who I am")
    ways = {
        "container": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{service}/container"},
        "machine": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service},
        "identity": {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/worker",
            "AWS_ENDPOINT_URL_STS": service,
            "AWS_REGION": "us-east-1",
        },
    }
    for name, value in {"HOME": str(tmp_path), **ways[way]}.items():
        monkeypatch.setenv(name, value)
    found = AwsCredentials()()
    assert {name: found.get(name) for name in GIVEN} == GIVEN


@pytest.mark.parametrize("token", [None, "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"])
def test_keys_in_variables_are_those_that_botocore_finds(
    token: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also beside a profile."""
    for name in of_clouds(os.environ).keys() - {"PATH"}:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[p]\naws_access_key_id = C\naws_secret_access_key = D\n")
    variables = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_PROFILE": "p"}
    for name, value in {"HOME": str(tmp_path), **variables, **({token: "T"} if token else {})}.items():
        monkeypatch.setenv(name, value)
    found = AwsCredentials()
    given = found()
    theirs = found.session.get_credentials()
    assert theirs is not None
    keys = [given["access_key_id"], given["secret_access_key"], given.get("token")]
    assert keys == list(theirs.get_frozen_credentials())[:3]


def test_keys_that_expire_are_left_to_botocore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in of_clouds(os.environ).keys() - {"PATH"}:
        monkeypatch.delenv(name)
    variables = {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "B",
        "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="expired"):
        AwsCredentials()()


def test_what_is_not_of_a_cloud_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCS_THING", "ours")
    monkeypatch.setenv("LANG", "ours")
    before = dict(os.environ)
    theirs = {**before, "LANG": "theirs", "GRIDKEEP_HOME": "theirs"}
    del theirs["GCS_THING"]
    adopt(theirs)
    assert "GCS_THING" not in os.environ
    assert os.environ["LANG"] == "ours"
    assert os.environ.get("GRIDKEEP_HOME") == before.get("GRIDKEEP_HOME")
