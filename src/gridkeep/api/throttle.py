"""Slowing down whoever tries wrong keys, without slowing down the right ones.

Only the answer to a wrong key waits, the longer the more of them a client has sent of late. What is remembered is bounded,
and so is how many answers wait at once: a flood of guesses costs the server no more than the guesses themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

_FREE = 3  # wrong keys that cost nothing: people mistype
_FIRST = 0.1  # seconds, doubled from try to try
_LONGEST = 3.0
_FORGIVEN = 60.0  # seconds after which half of it is forgotten
_CLIENTS = 4096
_WAITING = 256


class Throttle:
    """Used from the event loop only. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> how many, when
        self._waiting = 0

    async def wait(self, client: str) -> None:
        """Counts a wrong key of `client` (its address), and waits."""
        pause = self.pause(client)
        if not pause or self._waiting >= _WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._waiting -= 1

    def pause(self, client: str) -> float:
        """Counts a wrong key of `client`; the seconds that its answer is to wait."""
        now, client = self._clock(), _network(client)
        count, last = self._wrong.pop(client, (0.0, now))
        count = count * 0.5 ** ((now - last) / _FORGIVEN) + 1
        self._wrong[client] = count, now
        if len(self._wrong) > _CLIENTS:
            self._wrong.popitem(last=False)
        return 0.0 if count <= _FREE else min(_LONGEST, _FIRST * 2 ** min(count - _FREE, 10.0))


def _network(client: str) -> str:
    """IPv6 clients have more addresses than anyone can count: theirs is the /64."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else client
