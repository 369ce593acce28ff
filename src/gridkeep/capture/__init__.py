"""What a process tree writes, seen from outside: no root, no change to the program, any language.

`session.Session(folder).start(launch)` executes a command under capture; its `records` are the journal, its `end` the
record of the run. The shim behind it knows no store and no catalog. It is there twice: in C (`native/`), compiled when
Gridkeep is installed, and in Python (`shim`) for where there is no compiler. Both leave the same files.
"""

from __future__ import annotations

import os


def probe() -> tuple[str, str]:
    """(mode, why) that a run gets on this machine: tried for real, in a process of its own."""
    from gridkeep.capture.calls import (
        build_filter,  # the probe's alone: who imports this package pays for nothing
    )
    from gridkeep.capture.kernel import install_filter
    from gridkeep.capture.session import has_native_shim

    out, inn = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            install_filter(build_filter(os.uname().machine))
        except (OSError, KeyError) as error:
            os.write(inn, f"{error}".encode())
        finally:
            os._exit(0)
    os.close(inn)
    with open(out, "rb") as answer:
        refusal = answer.read().decode(errors="replace")
    os.waitpid(child, 0)
    if refusal:
        return (
            "watch",
            f"the kernel refuses seccomp user notification ({refusal}): only the working copy is looked through",
        )
    if has_native_shim():
        return "c", "seccomp user notification works here"
    return "python", "seccomp user notification works here, the C shim (less overhead) was not compiled"
