"""Creating, changing, replacing and removing, as most programs do it."""

from __future__ import annotations

import os
import shutil
import time
from itertools import product

from .base import case, put, sh


@case()
def create() -> None:
    put("new")
    os.mkdir("folder/deeper")
    put("folder/deeper/new", "deep\n")
    put(os.path.abspath("by its whole path"))
    os.close(os.open("by opening it for reading", os.O_RDONLY | os.O_CREAT))
    os.mknod("by mknod")


@case()
def append() -> None:
    for name, flags in product(("old", "new"), (os.O_WRONLY, os.O_RDWR)):
        fd = os.open(name, flags | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"more\n")
        os.close(fd)


@case()
def truncate() -> None:
    os.truncate("old", 2)
    os.close(os.open("other", os.O_RDONLY | os.O_TRUNC))
    with open("data", "r+b") as file:
        file.truncate(100_000)


@case()
def change_in_place() -> None:
    """By as many bytes, and with the time of before: neither size nor date tell of it."""
    for name in ("old", "data"):
        before = os.stat(name)
        with open(name, "r+b") as file:
            file.write(b"X")
        os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert os.stat(name).st_mtime_ns == before.st_mtime_ns


@case()
def nothing_changed() -> None:
    """Inputs that are read, opened for writing and left alone, or refuse to be made: none of them is an artifact."""
    sh("cat old data < other > /dev/null; ls -lR . > /dev/null; test -w old")
    open("old", "r+").close()
    open("data", "ab").close()
    for path, flags in (
        ("old", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        ("none/file", os.O_CREAT | os.O_WRONLY),
    ):
        try:
            os.open(path, flags)
        except (FileExistsError, FileNotFoundError):
            continue
        raise AssertionError(path)


@case(comes_and_goes=(r"replacement",))
def written_with_the_same_bytes() -> None:
    text = open("old", "rb").read()
    put("old", text)
    put("replacement", text)
    os.replace("replacement", "other")


@case()
def redirections() -> None:
    sh(
        """
        echo 1 > a; echo 2 >> a; echo 3 <> b 1>&0; { echo 4; echo 5 >&2; } > c 2>&1; echo 6 | tee d > e; cat > f <<'END'
        7
        END
        ( exec 3> g; echo 8 >&3; sh -c 'echo 9 >&3' ); echo ten | (cd /; cat) > h
        sh -c 'echo 11 > /dev/stdout' > i; echo 12 > /proc/self/cwd/j; echo 13 >> old
        seq 100000 | sort -r | gzip > k.gz; yes | head -c 3000000 | split -b 1000000 - part-
        dd if=data of=old bs=1 count=3 seek=1 conv=notrunc status=none
        """
    )


@case()
def stdout_is_no_file() -> None:
    """What is printed is the output log, by whatever name it is opened."""
    sh(
        "echo 1; echo 2 > /dev/stderr; echo 3 > /dev/stdout; echo 4 >> /proc/self/fd/1; echo 5 | tee /dev/stderr > a"
    )


@case(removed=(r"temporary", r"gone/\d+", r"gone/below/x"), comes_and_goes=(r"before(/[ab])?|gone(/below)?",))
def replaced_and_removed() -> None:
    """Also what becomes another kind of thing, and back."""
    put("temporary")
    os.remove("temporary")
    os.makedirs("gone/below")
    for number in range(20):
        put(f"gone/{number}")
    put("gone/below/x")
    shutil.rmtree("gone")
    os.remove("old")
    os.mkdir("old")
    put("old/in a folder that was a file")
    put("comes back", "1\n")
    os.remove("comes back")
    put("comes back", "2\n")
    shutil.rmtree("folder")
    put("folder", "a file that was a folder\n")
    os.mkdir("before")
    put("before/a")
    put("before/b")
    os.rename("before", "after")


@case(removed=(r"f\d+",))
def removed_at_once() -> None:
    for number in range(200):
        fd = os.open(f"f{number}", os.O_CREAT | os.O_WRONLY)
        if number % 2:
            os.write(fd, b"for a moment")
        os.unlink(f"f{number}")
        os.close(fd)
    put("last")


@case(comes_and_goes=(r"replacement",))
def rewritten_fifty_times() -> None:
    for number in range(50):
        put("in place", f"{number}\n" * number)
        put("replacement", f"{number}\n" * number)
        os.replace("replacement", "replaced")
        with open("old", "r+b") as file:
            file.write(b"%02d" % number)
        time.sleep(0.01)


@case(places=("work",))
def growing_slowly() -> None:
    with open("work.log", "w") as inside, open(os.path.expanduser("~/log"), "w") as outside:
        for number in range(100):
            for log in (inside, outside):
                log.write(f"line {number}\n")
                log.flush()
            time.sleep(0.03)


@case()
def sparse_and_empty() -> None:
    open("empty", "w").close()
    put("other", b"")
    with open("sparse", "wb") as file:
        file.seek(16 << 20)
        file.write(b"in the middle")
        file.truncate(64 << 20)
    with open("allocated", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
    with open("only a hole", "wb") as file:
        file.truncate(1 << 20)


def write_large(size: int) -> None:
    block = os.urandom(1 << 20)
    with open("large", "wb") as file:
        for number in range(size >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])


@case()
def large() -> None:
    write_large(64 << 20)


@case(places=("work",), long=True)
def large_2_gib() -> None:
    write_large((2 << 30) + (1 << 20))
