"""Bytes are shared out, never more than there are, and nobody who asks for too much waits for ever."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from gridkeep.stores.budget import Budget


def test_never_more_than_there_are() -> None:
    budget, lock = Budget(10), threading.Lock()
    taken, most = 0, 0

    def work(seed: int) -> None:
        nonlocal taken, most
        numbers = random.Random(seed)
        for _ in range(200):
            size = numbers.randint(1, 10)
            with budget.held(size):
                with lock:
                    taken += size
                    most = max(most, taken)
                with lock:
                    taken -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (taken, most <= 10) == (0, True)


def test_what_is_too_much_waits_until_nobody_has_any() -> None:
    budget = Budget(10)
    assert budget.try_take(1)
    assert not budget.try_take(11)
    assert not budget.try_take(10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.take, 25)
        budget.give(1)
        waiting.result(10)
    assert not budget.try_take(1)
    budget.give(25)
    assert budget.try_take(10)
