"""How long the answer to a wrong key waits, by the rules alone."""

from __future__ import annotations

import asyncio
import time

from gridkeep.api.throttle import Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_pause_grows_to_a_limit_and_is_forgiven() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    pauses = [throttle.pause("192.0.2.1") for _ in range(12)]
    assert pauses[:3] == [0.0, 0.0, 0.0] and pauses[3] > 0
    assert pauses == sorted(pauses) and pauses[-1] == pauses[-2] <= 5
    assert throttle.pause("192.0.2.2") == 0.0  # another client
    clock.now += 600
    assert throttle.pause("192.0.2.1") == 0.0


def test_addresses_of_one_network_count_together() -> None:
    throttle = Throttle(Clock())
    pauses = [throttle.pause(f"2001:db8::{number:x}") for number in range(10)]
    assert pauses[-1] > 1
    assert throttle.pause("2001:db8:0:1::1") == 0.0


def test_what_is_remembered_is_bounded() -> None:
    throttle = Throttle(Clock())
    for number in range(10_000):
        throttle.pause(f"10.0.{number >> 8}.{number & 255}")
    assert len(throttle._wrong) <= 4096


def test_a_flood_of_guesses_does_not_pile_up() -> None:
    throttle = Throttle()

    async def flood() -> float:
        begun = time.monotonic()
        for _ in range(20):
            throttle.pause("192.0.2.1")
        waiting = [asyncio.create_task(throttle.wait("192.0.2.1")) for _ in range(3000)]
        await asyncio.sleep(0.3)
        done = sum(task.done() for task in waiting)
        assert done >= 3000 - 256  # those over the limit are answered at once
        for task in waiting:
            task.cancel()
        return time.monotonic() - begun

    assert asyncio.run(flood()) < 10
