"""A proxy in front of an S3 server that does to requests what networks and servers do: cuts, refuses, delays, forgets.

A `Rule` says which requests are struck, and by what; whatever no rule strikes goes through unchanged, its Host header
too, as signatures cover it. All that came by is in `seen`. Knows nothing of Gridkeep.

    proxy.strike(reset_after, method="PUT", path=r"/manifest", times=1)     the first answer to that is lost
    with proxy.away(): ...                                                  nobody listens
"""

from __future__ import annotations

import random
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

_PIECE = 1 << 16
_UPSTREAM = 60.0  # seconds for the server behind


class Reset(Exception):
    """The connection ends here, without another byte."""


@dataclass
class Seen:
    """A request. `status` is that of the answer that its client got, 0 when it got none or not all of it; `reached`: whether
    the server behind got all of it; `struck`: the name of what was done to it."""

    method: str
    path: str
    size: int
    at: float
    key: str  # whose credentials it bears
    status: int = 0
    reached: bool = False
    struck: str = ""


class Exchange:
    """A request on its way: what an act has in hand."""

    def __init__(self, handler: _Handler, proxy: Proxy, seen: Seen) -> None:
        self._handler, self.proxy, self.seen = handler, proxy, seen
        self.left = seen.size  # bytes of the body that have not been read

    def body(self) -> Iterator[bytes]:
        while self.left:
            piece = self._handler.rfile.read1(min(_PIECE, self.left))
            if not piece:
                raise Reset  # the client went away
            self.left -= len(piece)
            yield piece

    def answer(self, status: int, code: str, *, headers: str = "") -> None:
        """An answer of our own, in S3's form, after the whole request."""
        for _ in self.body():
            pass
        text = f"<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>{code}</Code><Message>Struck.</Message></Error>"
        body = b"" if self.seen.method == "HEAD" else text.encode()
        head = f"HTTP/1.1 {status} Struck\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self._handler.wfile.write(head.encode() + body)
        self.seen.status = status

    def send(self, change: Callable[[int, bytes], bytes] = lambda at, piece: piece) -> HTTPResponse:
        """Hands the request on; `change` gets each piece of its body with its place, and may raise Reset. Gives the answer,
        of which only the head has been read."""
        upstream = self._handler.upstream = self.begin()
        at = 0
        for piece in self.body():
            changed = change(at, piece)
            if not self.left and self.proxy.is_gone(self):
                raise Reset  # as a load balancer does: what nobody waits for is not done later
            upstream.send(changed)
            at += len(piece)
        self.seen.reached = True
        return upstream.getresponse()

    def begin(self) -> HTTPConnection:
        """The head of the request goes to the server behind."""
        upstream = HTTPConnection(*self.proxy.behind, timeout=_UPSTREAM)
        upstream.putrequest(self.seen.method, self.seen.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("expect", "connection"):
                upstream.putheader(name, value)
        upstream.endheaders()
        return upstream

    @property
    def headers(self) -> Message:
        return self._handler.headers

    def give(
        self, answer: HTTPResponse, change: Callable[[int, bytes], bytes] = lambda at, piece: piece
    ) -> None:
        """Hands the answer back; `change` as above, of the answer's body."""
        chunked = answer.getheader("Transfer-Encoding", "").lower() == "chunked"
        head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in answer.getheaders() if name.lower() != "connection"
        )
        out = self._handler.wfile
        out.write(head.encode("latin-1") + b"\r\n")
        at = 0
        while piece := answer.read1(_PIECE):
            changed = change(at, piece)
            out.write(b"%x\r\n%b\r\n" % (len(changed), changed) if chunked else changed)
            at += len(piece)
        if chunked and self.seen.method != "HEAD":
            out.write(b"0\r\n\r\n")
        self.seen.status = answer.status


Act = Callable[[Exchange], None]


# ------------------------------------------------------------------------------------------------------ what is done


def forward(exchange: Exchange) -> None:
    exchange.give(exchange.send())


def reset_before(exchange: Exchange) -> None:
    """The server behind never hears of it."""
    raise Reset


def reset_after(exchange: Exchange) -> None:
    """The server behind has done it; its answer is lost."""
    exchange.send().read()
    raise Reset


def late(exchange: Exchange) -> None:
    """Its client hears nothing; the server behind gets it when `proxy.deliver` is called."""
    body = b"".join(exchange.body())

    def deliver() -> int:
        upstream = exchange.begin()
        upstream.send(body)
        status = upstream.getresponse().status
        upstream.close()
        return status

    exchange.proxy.held.append(deliver)
    raise Reset


def refuse(status: int, code: str, *, headers: str = "") -> Act:
    """An error of the server."""

    def act(exchange: Exchange) -> None:
        exchange.answer(status, code, headers=headers)

    act.__name__ = f"refuse_{status}_{code}"
    return act


def cut_request(at: int) -> Act:
    """The connection breaks, on both sides, after so many bytes of the request's body; a shorter one loses its last byte."""

    def act(exchange: Exchange) -> None:
        limit = min(at, max(0, exchange.seen.size - 1))

        def cut(place: int, piece: bytes) -> bytes:
            if place + len(piece) > limit:
                exchange._handler.upstream.send(piece[: limit - place])  # type: ignore[union-attr]
                raise Reset
            return piece

        exchange.send(cut)
        raise Reset

    return act


def cut_answer(at: int) -> Act:
    """The connection breaks after so many bytes of the answer's body; a shorter one loses its last byte."""

    def act(exchange: Exchange) -> None:
        answer = exchange.send()
        limit = min(at, max(0, (answer.length or 1) - 1))

        def cut(place: int, piece: bytes) -> bytes:
            if place + len(piece) > limit:
                exchange._handler.wfile.write(piece[: limit - place])
                raise Reset
            return piece

        exchange.give(answer, cut)
        raise Reset

    return act


def damage(exchange: Exchange) -> None:
    """One bit of the request's body is another at the server."""

    def flip(place: int, piece: bytes) -> bytes:
        return bytes([piece[0] ^ 1]) + piece[1:] if place == 0 else piece

    exchange.give(exchange.send(flip))


def hang(exchange: Exchange) -> None:
    """Nothing comes back, and nothing more is read, until the client goes away or `proxy.let_go` is called."""
    exchange.proxy.wait(exchange)
    raise Reset


def hang_after(exchange: Exchange) -> None:
    """The server behind has done it; its answer never comes."""
    exchange.send().read()
    hang(exchange)


def hang_within(at: int) -> Act:
    """After so many bytes of the answer's body no more come."""

    def act(exchange: Exchange) -> None:
        def stop(place: int, piece: bytes) -> bytes:
            if place + len(piece) > at:
                exchange._handler.wfile.write(piece[: at - place])
                exchange._handler.wfile.flush()
                hang(exchange)
            return piece

        exchange.give(exchange.send(), stop)

    return act


def delay(seconds: float) -> Act:
    """It takes so much longer."""

    def act(exchange: Exchange) -> None:
        exchange.proxy.pause(seconds)
        forward(exchange)

    return act


def slow(rate: float) -> Act:
    """So many bytes a second, both ways, of this request."""

    def act(exchange: Exchange) -> None:
        def drag(_: int, piece: bytes) -> bytes:
            exchange.proxy.pause(len(piece) / rate)
            return piece

        exchange.give(exchange.send(drag), drag)

    return act


def having(header: str, act: Act) -> Act:
    """`act` for requests with this header; others go through."""

    def chosen(exchange: Exchange) -> None:
        (act if header in exchange.headers else forward)(exchange)

    return chosen


SLOW_DOWN = refuse(503, "SlowDown")
INTERNAL = refuse(500, "InternalError")
TOO_MANY = refuse(429, "TooManyRequests", headers="Retry-After: 1\r\n")
TIMED_OUT = refuse(400, "RequestTimeout")
EXPIRED = refuse(400, "ExpiredToken")
DENIED = refuse(403, "AccessDenied")
NO_BUCKET = refuse(404, "NoSuchBucket")


# ------------------------------------------------------------------------------------------------------------- rules


@dataclass
class Rule:
    """Requests of `method` (None: all) whose path with its query has `path`, a regular expression, in it, signed by `key`
    (None: anybody): the first `skip` of them go by; of the others one of `every` so many is struck, with the chance
    `chance`, until `times` (None: all) were. What an earlier rule takes is not counted."""

    act: Act
    method: str | None = None
    path: str = ""
    key: str | None = None
    skip: int = 0
    every: int = 1
    times: int | None = None
    chance: float = 1.0
    struck: int = field(default=0, init=False)
    _met: int = field(default=0, init=False)

    def takes(self, seen: Seen, dice: random.Random) -> bool:
        if self.method not in (None, seen.method) or self.key not in (None, seen.key):
            return False
        if not re.search(self.path, seen.path):
            return False
        self._met += 1
        if self._met <= self.skip or (self._met - self.skip - 1) % self.every:
            return False
        if self.times is not None and self.struck >= self.times:
            return False
        if self.chance < 1 and dice.random() >= self.chance:
            return False
        self.struck += 1
        return True


class Proxy:
    """Use it as a context manager. `endpoint` is what clients are told; `behind` is the server's own."""

    def __init__(self, behind: str, seed: str = "") -> None:
        address = urlsplit(behind)
        assert address.hostname and address.port
        self.behind = (address.hostname, address.port)
        self.seen: list[Seen] = []
        self.held: list[Callable[[], int]] = []  # requests that are late
        self._rules: list[Rule] = []
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._free = threading.Event()  # set: whatever hangs lets go
        self._clients: set[socket.socket] = set()
        self._listener = _Listener(("127.0.0.1", 0), self)
        self._port: int = self._listener.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._listen()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._leave()

    # ----------------------------------------------------------------------------------------------------- by the test

    def strike(self, act: Act, **which: Any) -> Rule:
        """From now on, until `forgive`. Of several rules that take a request the first counts."""
        rule = Rule(act, **which)
        with self._lock:
            self._rules.append(rule)
        return rule

    def forgive(self, *rules: Rule) -> None:
        """These rules, or all, are off; what hangs lets go."""
        with self._lock:
            self._rules = [rule for rule in self._rules if rules and rule not in rules]
        self.let_go()

    def let_go(self) -> None:
        """What hangs or waits now ends."""
        self._free.set()
        self._free = threading.Event()

    def deliver(self) -> list[int]:
        """What was late comes to the server behind now; its answers, which nobody gets."""
        with self._lock:
            held, self.held = self.held, []
        return [deliver() for deliver in held]

    @contextmanager
    def away(self) -> Iterator[None]:
        """Connections are refused, and those that there were are reset."""
        self._leave()
        try:
            yield
        finally:
            self._listener = _Listener(("127.0.0.1", self._port), self)
            self._listen()

    def count(
        self, method: str | None = None, path: str = "", since: float = 0.0, reached: bool = False
    ) -> int:
        """How many requests came by, or came through."""
        with self._lock:
            seen = list(self.seen)
        return sum(
            method in (None, one.method)
            and re.search(path, one.path) is not None
            and one.at >= since
            and (one.reached or not reached)
            for one in seen
        )

    # ------------------------------------------------------------------------------------------------------- by an act

    def wait(self, exchange: Exchange, seconds: float = 600.0) -> None:
        """Until `let_go`, or the client has gone away."""
        free, end = self._free, time.monotonic() + seconds
        while not free.wait(0.05) and time.monotonic() < end and not self.is_gone(exchange):
            pass

    def is_gone(self, exchange: Exchange) -> bool:
        """Whether its client has gone away."""
        gone = select.poll()
        gone.register(exchange._handler.connection, select.POLLRDHUP)
        return bool(gone.poll(0))

    def pause(self, seconds: float) -> None:
        self._free.wait(seconds)

    # -------------------------------------------------------------------------------------------------------- requests

    def act_for(self, seen: Seen) -> Act:
        with self._lock:
            self.seen.append(seen)
            rule = next((rule for rule in self._rules if rule.takes(seen, self._dice)), None)
        if rule is None:
            return forward
        seen.struck = (
            rule.act.__name__ if rule.act.__name__ != "act" else rule.act.__qualname__.partition(".")[0]
        )
        return rule.act

    def holds(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)

    def drops(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)

    def _listen(self) -> None:
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def _leave(self) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            with suppress(OSError):
                _reset(client)


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128
    block_on_close = False

    def __init__(self, address: tuple[str, int], proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: HTTPConnection | None = None

    def setup(self) -> None:
        super().setup()
        self._proxy.holds(self.connection)

    def finish(self) -> None:
        self._proxy.drops(self.connection)
        with suppress(OSError, ValueError):
            super().finish()

    @property
    def _proxy(self) -> Proxy:
        return cast(_Listener, self.server).proxy

    def _exchange(self) -> None:
        key = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        size = int(self.headers.get("Content-Length", 0))
        seen = Seen(self.command, self.path, size, time.monotonic(), key[1] if key else "")
        exchange = Exchange(self, self._proxy, seen)
        try:
            self._proxy.act_for(seen)(exchange)
            if exchange.left:
                raise Reset
        except (Reset, OSError, HTTPException):
            self.close_connection = True
            with suppress(OSError):
                _reset(self.connection)
        finally:
            if self.upstream is not None:
                self.upstream.close()
                self.upstream = None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _exchange

    def log_message(self, *_: object) -> None:
        """Nothing: `seen` has it all."""


def _reset(connection: socket.socket) -> None:
    """So that its other side gets ECONNRESET, not an orderly end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.shutdown(socket.SHUT_RD)
    connection.close()
