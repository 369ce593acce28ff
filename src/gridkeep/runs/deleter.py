"""Goes on with deletions that were cut off, or left to the engine: `python -m gridkeep.runs.deleter HOME`, once.

A process of its own: a store that is silent must not hold up the engine's other work, and who opens a store with another's
credentials has them for good.
"""

from __future__ import annotations

import os
import signal
import sys

from gridkeep.errors import HomeError
from gridkeep.runs.context import open_context
from gridkeep.runs.delete import finish_deletions


def main(path: str) -> None:
    """Does what can be done now, and says what cannot."""
    os.umask(0o077)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    with open_context({**os.environ, "GRIDKEEP_HOME": path}, start_engine=False) as context:
        finish_deletions(context, lambda what: print(what, file=sys.stderr, flush=True))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except HomeError as error:
        sys.exit(error.message)
