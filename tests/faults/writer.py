"""Random file work from a seed, told step by step: the script that the rounds run under `grid run`.

    writer.py SEED OUTSIDE LOGS [--memory FOLDER] [--operations N] [--pause SECONDS]

It works in its current folder, below OUTSIDE and below the FOLDER, in one to three processes. Each process appends to a
log of its own in LOGS, one JSON line at a time, each with a single write: before an operation the paths that it is about
to touch, after it what each of them holds by then (SHA-256, null for nothing). So a log whose writer was killed anywhere
says what must be there, and which paths may be in either state. Knows nothing of Gridkeep.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import random
import sys
import time
from collections.abc import Callable, Iterable

NAMES = [
    b"plain", b"with space", "ünï-ço∂é".encode(), b"new\nline", b"not\xff\xfeutf8", b"per%cent&", b"back\\slash",
    b"quote'\"", b"*star?", b"-dash", b".hidden", b"a" * 200, b"b" * 250, b"tab\there", b"x.partial", b"#hash#",
]  # fmt: skip
TOPS = [b"made", b"_abs", b"_enc", b"deep/er/still"]
FAILED = 4  # exit code after an operation that the system refused


class Inode:
    """What a file holds; its names share it."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class Log:
    """What was begun and what was done, one line each."""

    def __init__(self, folder: str, tag: str) -> None:
        path = os.path.join(folder, f"{tag}.jsonl")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, **what: object) -> None:
        os.write(self._fd, json.dumps(what).encode() + b"\n")


class Writer:
    """One process's work, in folders that no other process touches."""

    def __init__(self, seed: str, folders: list[bytes], log: Log, pause: float) -> None:
        self._random = random.Random(seed)
        self._folders = folders
        self._log = log
        self._pause = pause
        self._files: dict[bytes, Inode] = {}
        self._held: list[tuple[bytes, int]] = []  # open for appending, to the end
        self._count = 0

    def work(self, operations: int) -> None:
        for folder in self._folders:
            os.makedirs(folder)
        some = [
            (self._create, 8), (self._append, 5), (self._hold, 1), (self._append_to_held, 5), (self._overwrite, 4),
            (self._cut, 2), (self._replace, 4), (self._rename, 3), (self._rename_folder, 1), (self._remove, 3),
            (self._link, 2), (self._map, 1),
        ]  # fmt: skip
        actions: list[Callable[[], None]] = [action for action, _ in some]
        weights = [weight for _, weight in some]
        for _ in range(operations):
            self._random.choices(actions, weights)[0]()
            time.sleep(self._random.expovariate(1 / self._pause) if self._random.random() < 0.7 else 0)

    # ----------------------------------------------------------------------------------------------------- operations

    def _create(self) -> None:
        path = self._new_path()
        self._make(path, self._some_bytes())

    def _append(self) -> None:
        if path := self._some_file():
            more = self._some_bytes()
            with self._step(self._names_of(self._files[path])), open(path, "ab") as file:
                self._in_pieces(file.write, more)
                self._files[path].content += more

    def _hold(self) -> None:
        path = self._new_path()
        self._make(path, b"")
        self._held.append((path, os.open(path, os.O_WRONLY | os.O_APPEND)))

    def _append_to_held(self) -> None:
        held = [(path, fd) for path, fd in self._held if path in self._files]
        if held:
            path, fd = self._random.choice(held)
            if os.fstat(fd).st_ino == os.stat(path).st_ino:
                more = self._random.randbytes(self._random.randint(1, 5000))
                with self._step(self._names_of(self._files[path])):
                    self._files[path].content += more
                    os.write(fd, more)

    def _overwrite(self) -> None:
        if path := self._some_file():
            node = self._files[path]
            at = self._random.randint(0, len(node.content))
            new = self._some_bytes(100_000)
            with self._step(self._names_of(node)), open(path, "r+b") as file:
                file.seek(at)
                self._in_pieces(file.write, new)
                node.content[at : at + len(new)] = new

    def _cut(self) -> None:
        if path := self._some_file():
            node = self._files[path]
            size = self._random.randint(0, len(node.content))
            with self._step(self._names_of(node)):
                os.truncate(path, size)
                del node.content[size:]

    def _replace(self) -> None:
        """A new file beside it, renamed over it."""
        if path := self._some_file():
            beside, content = self._new_path(path), self._some_bytes()
            with self._step([path, beside]):
                with open(beside, "xb") as file:
                    self._in_pieces(file.write, content)
                os.rename(beside, path)
                self._files[path] = Inode(content)

    def _rename(self) -> None:
        if path := self._some_file():
            near = self._near(path)
            targets = [other for other in sorted(self._files) if other.startswith(near)]
            target = self._random.choice(targets) if self._random.random() < 0.3 else self._new_path(path)
            if target != path and self._files.get(target) is not self._files[path]:
                with self._step([path, target]):
                    os.rename(path, target)
                    self._files[target] = self._files.pop(path)

    def _rename_folder(self) -> None:
        folders = sorted({os.path.dirname(path) for path in self._files} - set(self._folders))
        if folders:
            old = self._random.choice(folders)
            new = self._new_path(old)
            if new.startswith(old + b"/"):
                return
            moved = {path: new + path[len(old) :] for path in self._files if path.startswith(old + b"/")}
            with self._step([*moved, *moved.values()]):
                os.rename(old, new)
                for path, target in moved.items():
                    self._files[target] = self._files.pop(path)
            self._held = [(moved.get(path, path), fd) for path, fd in self._held]

    def _remove(self) -> None:
        if path := self._some_file():
            with self._step([path]):
                os.unlink(path)
                del self._files[path]

    def _link(self) -> None:
        if path := self._some_file():
            other = self._new_path(path)
            with self._step([other]):
                os.link(path, other)
                self._files[other] = self._files[path]

    def _map(self) -> None:
        """Written through a shared mapping whose descriptor is closed already."""
        if (path := self._some_file()) and self._files[path].content:
            node = self._files[path]
            with self._step(self._names_of(node)):
                fd = os.open(path, os.O_RDWR)
                mapping = mmap.mmap(fd, len(node.content))
                os.close(fd)
                self._rest()
                mapping[:1] = node.content[:1] = self._random.randbytes(1)
                mapping.close()

    # ---------------------------------------------------------------------------------------------------------- parts

    def _make(self, path: bytes, content: bytes) -> None:
        with self._step([path]), open(path, "xb") as file:
            self._in_pieces(file.write, content)
            self._files[path] = Inode(content)

    def _step(self, paths: Iterable[bytes]) -> Step:
        self._count += 1
        return Step(self._log, self._count, list(paths), self._files)

    def _names_of(self, node: Inode) -> list[bytes]:
        return [path for path, other in self._files.items() if other is node]

    def _some_file(self) -> bytes | None:
        return self._random.choice(sorted(self._files)) if self._files else None

    def _near(self, path: bytes) -> bytes:
        """The beginning of all paths that the file can be renamed to: another folder may be another file system."""
        return next(folder for folder in self._folders if path.startswith(folder + b"/"))

    def _new_path(self, beside: bytes = b"") -> bytes:
        """One that nobody has had: a name that comes again would hide a loss."""
        folder = self._near(beside) if beside else self._random.choice(self._folders)
        if self._random.random() < 0.4:
            folder = os.path.join(folder, b"sub%d" % self._random.randint(0, 3))
            os.makedirs(folder, exist_ok=True)
        self._count += 1
        name = self._random.choice(NAMES)
        return os.path.join(folder, b"%d" % self._count + name[: 255 - len(str(self._count))])

    def _some_bytes(self, most: int = 4_000_000) -> bytes:
        low, high = self._random.choices(
            [(0, 0), (1, 3000), (3000, 100_000), (1_000_000, 4_000_000)], [10, 65, 20, 5]
        )[0]
        return self._random.randbytes(min(self._random.randint(low, high), most))

    def _in_pieces(self, write: Callable[[bytes], object], data: bytes) -> None:
        step = max(1, len(data) // self._random.choice([1, 1, 1, 5]))
        for at in range(0, len(data), step):
            write(data[at : at + step])
            if step < len(data):
                self._rest()

    def _rest(self) -> None:
        time.sleep(self._random.random() * self._pause)


class Step:
    """One operation: said before it, and after it what its paths hold then."""

    def __init__(self, log: Log, number: int, paths: list[bytes], files: dict[bytes, Inode]) -> None:
        self._log, self._number, self._paths, self._files = log, number, paths, files

    def __enter__(self) -> None:
        self._log.say(n=self._number, of=[text(path) for path in self._paths])

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        if kind is not None:
            self._log.say(n=self._number, error=str(error))
            return
        now = {text(path): self._files[path].sha256 if path in self._files else None for path in self._paths}
        self._log.say(n=self._number, now=now)


def text(path: bytes) -> str:
    return base64.b64encode(path).decode()


def worker(number: int, args: argparse.Namespace) -> int:
    """One process's whole work; its exit code."""
    tag = f"{number}-{os.getpid()}-{time.time_ns():x}"
    log = Log(args.logs, tag)
    log.say(tree=text(os.getcwdb()))
    top = random.Random(f"{args.seed} {number} top").choice(TOPS)
    places = [os.path.join(os.getcwdb(), top), os.fsencode(args.outside)]
    places += [os.fsencode(args.memory)] if args.memory else []
    folders = [os.path.join(place, tag.encode()) for place in places]
    try:
        Writer(f"{args.seed} {number}", folders, log, args.pause).work(args.operations)
    except OSError:  # it is in the log; what we print may find its disk full, too
        return FAILED
    log.say(worked=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("seed")
    parser.add_argument("outside")
    parser.add_argument("logs")
    parser.add_argument("--memory")
    parser.add_argument("--operations", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.02)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    children = []
    for number in range(1, chance.choice([1, 2, 3])):
        if (pid := os.fork()) == 0:
            os._exit(worker(number, args))
        children.append(pid)
    if chance.random() < 0.2 and os.fork() == 0:  # outlives us
        os.setsid()
        os._exit(worker(9, args))
    code = worker(0, args)
    for pid in children:
        code = code or abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    Log(args.logs, f"main-{os.getpid()}-{time.time_ns():x}").say(end=code)
    return code


if __name__ == "__main__":
    sys.exit(main())
