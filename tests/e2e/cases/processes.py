"""Who writes: threads, children, daemons, programs in C; and how they end."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading
import time

from .base import MODE, SEEING, TOOLS, Loss, case, forked, put, sh, wait_for_all, writer


@case(comes_and_goes=(r"a",))
def threads_whose_leader_is_gone() -> None:
    writer("leader-gone", "a", "b")


@case(comes_and_goes=(r"below/a",))
def thread_in_a_folder_of_its_own() -> None:
    os.mkdir("below")
    writer("own-folder", "a", "b")


@case()
def static_binary() -> None:
    for how in ("raw", "creat", "vfork", "seccomp"):
        writer(how, how, program="writer-static")


@case()
def raw_system_calls() -> None:
    for how in ("raw", "creat", "vfork"):
        writer(how, how)
    writer("bad", "calls that fail")


@case()
def openat2() -> None:
    os.mkdir("below")
    writer("openat2", "a")


@case(comes_and_goes=(r"a",))
def calls_of_32_bits() -> None:
    writer("int80", "a", "b")


@case(counters={"io_uring": 2})
def io_uring_is_refused() -> None:
    if SEEING:
        writer("io_uring", "a")
    else:
        put("a")  # nothing stands in its way there


@case()
def filter_of_its_own() -> None:
    writer("seccomp", "a")


@case()
def exec_after_exec() -> None:
    text = "import os; open('%d', 'w').write('new'); %s"
    last = text % (3, "")
    middle = text % (2, f"os.execv({sys.executable!r}, ['python', '-c', {last!r}])")

    def start() -> None:
        put("1")
        os.execv(sys.executable, ["python", "-c", middle])

    wait_for_all([forked(start)])


@case(outlives=True, places=("outside",))
def daemon() -> None:
    """Forks itself away, and writes when the main program is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("by the daemon", "w") as file:
                file.write("before\n")
                file.flush()
                time.sleep(1.5)
                file.write("after\n")
            put(os.path.expanduser("~/by the daemon"))
        os._exit(0)
    os.wait()


def write_number(number: int) -> None:
    put(f"f{number}", f"{number}\n" * number)


@case(comes_and_goes=(r"_abs/dev/shm/sem\..*",))
def pools() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(write_number, range(50))
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        list(executor.map(put, [f"s{number}" for number in range(10)]))
    threads = [threading.Thread(target=write_number, args=(number,)) for number in range(50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@case(outlives=True, exit_code=None, places=("work",))
def killed_in_the_middle_of_a_write() -> None:
    with open("torn", "wb", buffering=0) as file:
        for number in range(50):
            file.write(b"%d\n" % number * 1000)
            write_number(number)
        os.kill(os.getpid(), signal.SIGKILL)


@case(
    losses=(Loss("open of writer: unknown path", hides=r".*/outside/non_dumpable/a", users=("user",)),),
    swept={"user": 1},
)
def non_dumpable() -> None:
    """It may not be inspected, but by root: what it wrote in the working copy is found all the same."""
    writer("non-dumpable", "a")


@case(
    losses=(
        Loss(
            "open of writer-unreada.*unknown path",
            hides=r".*/outside/program_that_may_not_be_read/a",
            users=("user",),
        ),
    ),
    swept={"user": 1},
)
def program_that_may_not_be_read() -> None:
    writer("raw", "a", program="writer-unreadable")


@case()
def setuid_program() -> None:
    """It has its rights as root's script only; it writes in any case."""
    os.mkdir("for all")
    os.chmod("for all", 0o777)
    writer("raw", "for all/a", program="writer-setuid")
    owner = os.stat("for all/a").st_uid
    if os.getuid() == 0:
        assert owner == os.stat(TOOLS / "writer-setuid").st_uid != 0
    elif SEEING:
        assert owner == os.getuid(), "no_new_privs"


@case(comes_and_goes=(r"d(/b)?",))
def user_namespace() -> None:
    sh(
        "unshare -Ur true 2> /dev/null || exit 77; unshare -Ur sh -ec 'echo new > a; mkdir d; echo 2 > d/b; mv d e'"
    )


MANY = 2000 if MODE != "c" else 10_000


@case(places=("work",))
def many_files() -> None:
    for number in range(MANY):
        os.makedirs(f"many/{number // 1000}", exist_ok=True)
        put(f"many/{number // 1000}/{number}", f"{number}\n")


@case(places=("outside",))
def many_processes() -> None:
    sh(
        """
        i=0
        while [ $i -lt 300 ]; do
            (echo $i > f$i) &
            i=$((i+1))
            [ $((i % 50)) -ne 0 ] || wait
        done
        wait
        """
    )


@case()
def storm_of_signals() -> None:
    caught = 0

    def count(*_: object) -> None:
        nonlocal caught
        caught += 1

    signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    for number in range(200):
        write_number(number)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert caught > 20
