"""Where files lie: other file systems, mounts of a run's own, folders and files with rights of every kind, special files."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

from .base import BASE, IS_ROOT, Loss, cannot, case, put, sh

ALL = ("c", "python", "watch")


def write_in(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    put(os.path.join(folder, "new"))
    put(os.path.join(folder, "temporary"), "renamed\n")
    os.rename(folder / "temporary", folder / "renamed")
    with open(folder / "log", "a") as file:
        for number in range(5):
            file.write(f"{number}\n")
            file.flush()
            time.sleep(0.02)


@case(places=("outside",))
def tmp() -> None:
    """Which is not ignored: here it is the folder outside, which lies there."""
    write_in(Path("below"))


@case(places=("outside",))
def shared_memory() -> None:
    write_in(Path("/dev/shm", BASE.name, "shared_memory"))


@case(places=("outside",))
def home() -> None:
    write_in(Path.home() / "below")


@case(places=("outside",))
def another_file_system() -> None:
    if not (BASE / "mounted").exists():
        cannot("only root may mount a file system")
    write_in(BASE / "mounted/another_file_system")


@case(places=("outside",))
def overlay() -> None:
    """Files of the lower layer are copied up as they are opened for writing: their inode changes under the same name."""
    folder = BASE / "overlay/overlay"
    if not folder.exists():
        cannot("only root may mount an overlay")
    write_in(folder)
    with open(folder / "old", "a") as file:
        file.write("more\n")
    os.rename(folder / "other", folder / "moved")


@case(places=("work",), losses=(Loss("mount namespace"),))
def private_mount() -> None:
    """What lies on a mount that only this process has is gone with it: it is said, and nothing of it is taken for ours."""
    sh(
        """
        mkdir m; unshare -Urm sh -ec 'mount -t tmpfs none m' 2> /dev/null || exit 77
        unshare -Urm sh -ec 'mount -t tmpfs none m; echo new > m/a; echo 2 > b'; echo 3 > m/c
        """
    )


SHUT = Loss("cannot be read: Permission denied", modes=ALL, users=("user",))


@case(losses=(replace(SHUT, path=r"a|late", sure=False),))
def permissions() -> None:
    """Files and folders that are shut after, or while, they are written."""
    sh(
        """
        echo new > a; chmod 000 a; mkdir read-only; echo 2 > read-only/b; chmod 555 read-only
        echo 3 > read-only/c || true; echo 4 > e; chmod 200 e; echo 5 >> e; chmod 644 e; echo new > late; chmod 755 data
        chmod 400 other
        """
    )
    time.sleep(1)  # it is in the store by now
    os.chmod("late", 0)


@case(
    losses=(
        replace(SHUT, path=r"closed/a", modes=("c", "python")),
        replace(SHUT, path=r"closed", hides=r"closed/a$", modes=("watch",)),
    ),
)
def folder_that_is_shut() -> None:
    sh("mkdir closed; exec 3> closed/a; chmod 000 closed; echo new >&3")


@case()
def owners() -> None:
    """Files that root gives away are no less the run's."""
    if not IS_ROOT:
        cannot("only root may give files away")
    put("a")
    os.chown("a", 65534, 65534)
    os.chown("old", 65534, 65534)
    with open("other", "a") as file:
        os.fchown(file.fileno(), 65534, 65534)
        file.write("more\n")


@case()
def pipes_and_sockets() -> None:
    """They hold nothing that could be kept; in the working copy they are listed as what they are."""
    os.mkfifo("a pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("a socket")
    datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    datagrams.bind("another socket")
    sh("cat < 'a pipe' > 'what went through' & echo new > 'a pipe'; wait")
