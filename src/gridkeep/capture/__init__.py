"""What a process tree writes, seen from outside: no root, no change to the program, any language.

`session.Session(folder).start(launch)` executes a command under capture; its `records` are the journal, its `end` the
record of the run. The shim behind it knows no store and no catalog. It is there twice: in C (`native/`), compiled when
Gridkeep is installed, and in Python (`shim`) for where there is no compiler. Both leave the same files. Where the kernel
refuses, `watch` tells of changes in some folders.
"""

from __future__ import annotations

import errno
import os

_REFUSALS = {
    errno.EBUSY: "another seccomp listener is above it: this is a run inside a run, or in a sandbox that works that way",
    errno.EPERM: "a security policy forbids it, as those of some containers do",
    errno.EACCES: "a security policy forbids it, as those of some containers do",
    errno.ENOSYS: "the kernel, or the sandbox that plays it (gVisor is one), has no seccomp filters",
    errno.EINVAL: "the kernel, or the sandbox that plays it (gVisor is one), is older than that, or knows it by half",
}


def refusal() -> str | None:
    """Why the kernel does not let writes be seen, in words; None where it does. Tried for real, in a process of its own,
    unless nothing can be in the way."""
    return None if _unconfined() else _try()


def probe() -> tuple[str, str]:
    """(mode, why) that a run gets on this machine if no setting says otherwise."""
    from gridkeep.capture.session import has_native_shim

    if (refused := _try()) is not None:
        return "watch", refused
    if has_native_shim():
        return "c", "seccomp user notification works here"
    return "python", "seccomp user notification works here, the C shim (less overhead) was not compiled"


def _unconfined() -> bool:
    """Whether there is no filter above us at all, on a Linux that is new enough."""
    try:
        with open("/proc/self/status", "rb") as status:
            free = b"\nSeccomp:\t0\n" in status.read()
        major, minor = os.uname().release.split(".")[:2]
        return free and (int(major), int(minor)) >= (5, 6)
    except (OSError, ValueError):
        return False


def _try() -> str | None:
    from gridkeep.capture.calls import build_filter  # who imports this package pays for nothing
    from gridkeep.capture.kernel import install_filter

    out, inn = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            install_filter(build_filter(os.uname().machine))
        except OSError as error:
            os.write(inn, b"%d" % (error.errno or 0))
        except KeyError:
            os.write(inn, b"-1")
        finally:
            os._exit(0)
    os.close(inn)
    with open(out, "rb") as answer:
        number = answer.read()
    os.waitpid(child, 0)
    return in_words(int(number)) if number else None


def in_words(number: int) -> str:
    """What it means that asking for seccomp user notification failed with this errno; -1: nobody asked."""
    if number < 0:
        return f"nobody has told Gridkeep the numbers of this machine's system calls ({os.uname().machine})"
    meaning = _REFUSALS.get(number, os.strerror(number))
    return f"the kernel refuses seccomp user notification ({errno.errorcode.get(number, number)}): {meaning}"
