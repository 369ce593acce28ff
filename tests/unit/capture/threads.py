"""A process that stands where a test puts it, for the resolver to look through its eyes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def process(prepare: Callable[[], object]) -> Iterator[int]:
    """A child that has done `prepare` and waits until the test is through; fails the test if `prepare` fails."""
    ready, ready_in = os.pipe()
    hold, hold_in = os.pipe()
    child = os.fork()
    if child == 0:
        text = b"ok"
        try:
            os.close(ready)
            os.close(hold_in)
            prepare()
        except BaseException as error:
            text = repr(error).encode()
        os.write(ready_in, text)
        os.read(hold, 1)
        os._exit(0)
    os.close(ready_in)
    os.close(hold)
    try:
        answer = os.read(ready, 4096)
        assert answer == b"ok", f"the process could not take its place: {answer.decode()}"
        yield child
    finally:
        os.close(ready)
        os.close(hold_in)
        os.waitpid(child, 0)
