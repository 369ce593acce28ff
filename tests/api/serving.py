"""A real `grid serve` on loopback, for the tests that speak to it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from gridkeep.catalog.access import Role
from gridkeep.files import take_lock
from gridkeep.runs.access import make_key
from gridkeep.runs.context import Context, open_context
from tests.support import end_processes_of, environment

GRID = Path(sys.executable).parent / "grid"


@dataclass
class Served:
    """A server's process, and the home that it serves, open in this process as well.

    served.get("/v1/runs")                      with a key that may all
    served.client(Role.READ, user="ann")        a client with another's key
    served.client(None)                         one without
    """

    process: subprocess.Popen[str]
    context: Context
    login_link: str
    url: str
    log: Path
    release_engine: Callable[[], None]  # from then on an engine may start in the home
    _clients: dict[Any, httpx.Client] = field(default_factory=dict)

    def client(self, role: Role | None = Role.ADMIN, *, user: str | None = None) -> httpx.Client:
        owner = user or self.context.user
        if (role, owner) not in self._clients:
            headers = {} if role is None else {"x-api-key": self.key(role, user=owner)}
            self._clients[role, owner] = httpx.Client(base_url=self.url, headers=headers, timeout=30)
        return self._clients[role, owner]

    def key(self, role: Role = Role.ADMIN, *, user: str | None = None) -> str:
        """A new one."""
        catalog = self.context.catalog
        name = f"{role} {len(catalog.api_keys())}"
        return make_key(catalog, name=name, role=role, owner=user or self.context.user)[1]

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.client().get(path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.client().post(path, **how)

    def delete(self, path: str, **how: Any) -> httpx.Response:
        return self.client().delete(path, **how)

    def end(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Ends the process by that signal; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self.process.kill()
        self.process.communicate()


@contextmanager
def serving(root: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Serves a new home below `root` (or the one that is there) on a free port. No engine starts in it: what the
    tests find there they have made (`tests.unit.made`)."""
    home, log = root / "home", root / "serve.log"
    with open_context({**(env or {}), "GRIDKEEP_HOME": str(home)}, start_engine=False) as context:
        lock = take_lock(context.home.engine_lock)
        assert lock is not None
        started = start(root, *options, env=env)
        served = Served(started.process, context, started.login_link, started.url, log, lambda: release(lock))
        try:
            yield served
        finally:
            served.close()
            end_processes_of(home)
            os.close(lock)


def release(lock: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_UN)


@dataclass
class Started:
    """A server's process as it has announced itself."""

    process: subprocess.Popen[str]
    login_link: str

    @property
    def url(self) -> str:
        parts = urlsplit(self.login_link)
        return f"{parts.scheme}://{parts.netloc}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def start(
    root: Path, *options: str, env: Mapping[str, str] | None = None, home: Path | None = None
) -> Started:
    """Starts `grid serve` on a free port and waits until it has said where it is."""
    (root / "user").mkdir(exist_ok=True, parents=True)
    with open(root / "serve.log", "a") as log:
        process = subprocess.Popen(
            [str(GRID), "serve", "--port", "0", *options],
            env={**environment(home or root / "home", root / "user", os.environ["PATH"]), **(env or {})},
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    link = process.stdout.readline().strip()
    if not link:
        process.wait(10)
        raise AssertionError(f"grid serve did not start: {(root / 'serve.log').read_text()}")
    return Started(process, link)
