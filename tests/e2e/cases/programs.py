"""Programs that people run: archivers, version control, builds, installers, debuggers, and Gridkeep itself."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

from .base import SEEING, TOOLS, cannot, case, put, sh

PTRACE_TRACEME, PTRACE_SYSCALL = 0, 24


def need(command: str) -> None:
    if shutil.which(command) is None:
        cannot(f"there is no {command} here")


@case()
def tar() -> None:
    sh(
        """
        mkdir -p in/d; echo 1 > in/a; echo 2 > in/d/b; ln in/a in/hard; ln -s a in/soft; tar czf t.tar.gz in folder old
        mkdir out; tar xf t.tar.gz -C out; touch -d 2001-01-01 out/in/a
        """
    )


@case()
def git() -> None:
    need("git")
    sh(
        """
        git init -q repository; cd repository; git config user.email a@b; git config user.name a
        echo 1 > a; mkdir d; echo 1 > d/b; git add .; git commit -qm 1; git checkout -qb x
        echo 2 > a; git commit -qam 2; git checkout -q -; git gc -q; cd ..; git clone -q repository cloned
        """
    )


@case()
def make() -> None:
    need("make")
    need("gcc")
    put("Makefile", "all: program\nprogram: a.o b.o\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -c -o $@ $<\n")
    put("a.c", "int b(void); int main(void) { return b(); }\n")
    put("b.c", "int b(void) { return 0; }\n")
    sh("make -s -j2; ./program")


@case(places=("outside",))
def pip() -> None:
    """A wheel installed without a network."""
    if not (TOOLS / "pip.whl").exists():
        cannot("this Python came without pip")
    with zipfile.ZipFile("made-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made/__init__.py", "x = 1\n")
        wheel.writestr("made-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
        wheel.writestr(
            "made-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("made-1.0.dist-info/RECORD", "made/__init__.py,,\n")
    options = ["--quiet", "--no-index", "--disable-pip-version-check", "--no-compile", "--target", "target"]
    command: list[str | Path] = [
        sys.executable,
        TOOLS / "pip.whl/pip",
        "install",
        *options,
        "made-1.0-py3-none-any.whl",
    ]
    subprocess.run(command, check=True)
    assert Path("target/made/__init__.py").exists()


@case()
def debugger() -> None:
    """Each call of the script is stopped by a tracer, too."""
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.fork()
    if pid == 0:
        if libc.ptrace(PTRACE_TRACEME, 0, 0, 0) != 0:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execv("/bin/sh", ["sh", "-ec", "echo new > a; echo 2 >> old; mkdir d; echo 3 > d/b; echo 4 > c"])
    stops = 0
    while True:
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            break
        stops += 1
        number = os.WSTOPSIG(status)
        passed = 0 if number in (signal.SIGSTOP, signal.SIGTRAP) else number
        assert libc.ptrace(PTRACE_SYSCALL, pid, 0, passed) == 0
    assert os.WEXITSTATUS(status) == 0
    assert stops > 20
    if shutil.which("strace"):
        sh("strace -f -o trace sh -c 'echo new > traced'")


@case(places=("work",))
def nested_run() -> None:
    """It is queued, and the engine that is there takes it: its files are its own, none of them this run's."""
    put("nested.sh", 'echo inner > "inner of $1"\n')
    sh(f"grid run --name nested-{'seen' if SEEING else 'watched'} nested.sh x; echo outer > outer")


@case(places=("work",), comes_and_goes=(r"(nested-home|got)(/.*)?",))
def nested_run_in_a_home_of_its_own() -> None:
    """The kernel takes one listener only: the inner run is watched, and says so; the outer one sees what it writes."""
    put("nested.sh", 'echo inner > "inner"\n')
    sh(
        """
        export GRIDKEEP_HOME="$PWD/nested-home" GRIDKEEP_CAPTURE=auto
        grid run --follow --name inner nested.sh; grid artifacts inner-exp0 --download_dir got
        grid status inner --json > status.json; cmp got/inner-exp0/inner - <<'END'
        inner
        END
        until ! grid doctor --json > /dev/null 2>&1 || [ -z "$(ls nested-home/work)" ]; do sleep 0.1; done; sleep 1.5
        """
    )
    if SEEING:
        assert '"watch"' in open("status.json").read()
