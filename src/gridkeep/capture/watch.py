"""Which paths change below some folders, told by the file system's own events as they happen.

The eye of a run that the kernel does not let us capture. It sees less: not who writes, nothing outside its folders; and
events may be lost (full queues, new folders that are written to before they are watched, network file systems), so whoever
uses it looks through the folders now and then as well. The events come from `watchfiles`, where that is installed. Knows
nothing of stores or catalogs, and not which files matter.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence

_STEP_MS = 50  # without a change for so long, a batch is complete
_BATCH_MS = 200  # and after so long in any case
_MOST_FOLDERS = 10_000  # each takes one of the few watches that the kernel has for all programs of a user
_MOST_PATHS = 100_000  # kept until they are asked for
_PAUSE = 0.5  # seconds before it begins again after a name that cannot be told
_MARK_EVERY = 0.05  # seconds
_STOP_PATIENCE = 5.0  # seconds for a file system that does not answer


def is_installed() -> bool:
    """Whether there is a source of events at all; does not load it."""
    from importlib.util import find_spec  # slow, and only who asks needs it

    return find_spec("watchfiles") is not None


class Watch:
    """Watches `folders` (canonical) from a thread of its own. `own` is a folder for its marks, made here.

    `trouble` says, once there was any, why changes went untold. That is never an error: what still stands is found by
    looking.
    """

    def __init__(self, folders: Sequence[bytes], own: bytes) -> None:
        self.trouble: str | None = None
        self._folders = folders
        self._own = own
        self._marks = 0
        self._mark_told = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._changed: set[bytes] = set()
        os.makedirs(own, mode=0o700, exist_ok=True)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def changes(self) -> set[bytes]:
        """The canonical paths at which something was made, changed or removed since this was last asked; files and folders
        alike. Never waits."""
        with self._lock:
            changed, self._changed = self._changed, set()
        return changed

    def catch_up(self, patience: float) -> bool:
        """Waits until `changes` tells all that was before this call: until the event of a file made now has come. False
        when none has come in `patience` seconds, or none ever will."""
        deadline = time.monotonic() + patience
        self._marks += 1
        self._mark_told.clear()
        while self._thread.is_alive() and time.monotonic() < deadline:
            mark = self._mark()
            with open(mark, "wb"):  # again and again: the first may have come before the watch stood
                pass
            os.unlink(mark)
            if self._mark_told.wait(_MARK_EVERY):
                return True
        return False

    def close(self) -> None:
        """Ends it; what has not been asked for is forgotten."""
        self._stop.set()
        self._thread.join(_STOP_PATIENCE)

    def _mark(self) -> bytes:
        return os.path.join(self._own, b"%d" % self._marks)

    def _run(self) -> None:
        try:
            from watchfiles import watch  # not there everywhere, and nobody else pays for it
        except ImportError:
            self.trouble = "watchfiles is not installed"
            return
        if _count_folders(self._folders, _MOST_FOLDERS) > _MOST_FOLDERS:
            self.trouble = f"there are more than {_MOST_FOLDERS:,} folders to watch"
            return
        while not self._stop.is_set():
            try:
                for batch in watch(
                    *(os.fsdecode(path) for path in (*self._folders, self._own) if os.path.exists(path)),
                    watch_filter=None,
                    step=_STEP_MS,
                    debounce=_BATCH_MS,
                    stop_event=self._stop,
                    ignore_permission_denied=True,
                ):
                    self._note(os.fsencode(path) for _, path in batch)
            except (OSError, UnicodeError, RuntimeError) as error:  # watchfiles' own are RuntimeErrors
                if "decode path" not in str(error):
                    self.trouble = f"events came to an end: {error}"
                    return
                self.trouble = "events stop for a moment at a name that is not UTF-8"
                self._stop.wait(_PAUSE)

    def _note(self, paths: Iterable[bytes]) -> None:
        parents: dict[bytes, bytes] = {}
        changed, mark = set(), False
        for path in paths:
            parent, name = os.path.split(path)
            if parent == self._own:
                mark = mark or path == self._mark()
                continue
            if parent not in parents:
                parents[parent] = os.path.realpath(parent)  # it may be told of by way of a link
            changed.add(os.path.join(parents[parent], name))
        with self._lock:
            if len(self._changed) + len(changed) <= _MOST_PATHS:
                self._changed |= changed
            else:
                self.trouble = "more changed at once than could be told"
        if mark:
            self._mark_told.set()


def _count_folders(roots: Sequence[bytes], limit: int) -> int:
    """How many folders the watch would see, which follows links; counts no further than just beyond the limit."""
    pending, seen = list(roots), set[tuple[int, int]]()
    while pending and len(seen) <= limit:
        folder = pending.pop()
        try:
            st = os.stat(folder)
            if (st.st_dev, st.st_ino) in seen:
                continue
            with os.scandir(folder) as items:
                pending += [item.path for item in items if item.is_dir()]
        except OSError:
            continue  # a file, or not ours to read
        seen.add((st.st_dev, st.st_ino))
    return len(seen)
