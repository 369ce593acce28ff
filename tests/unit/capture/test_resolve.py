"""From a thread's words to the one path of a file, on real files and through the eyes of real processes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.capture.journal import ABSENT, Stamp
from gridkeep.capture.resolve import AT_FDCWD, NoTarget, Resolver, Target
from tests.unit.capture.threads import process

ME = os.getpid()
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    opened = Resolver()
    yield opened
    opened.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """a/file   a/to-file -> file   to-a -> a   away -> (nothing)   round -> round   empty/"""
    (tmp_path / "a").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/file").write_text("x")
    (tmp_path / "a/to-file").symlink_to("file")
    (tmp_path / "to-a").symlink_to("a")
    (tmp_path / "away").symlink_to("a/nothing")
    (tmp_path / "far-away").symlink_to(tmp_path / "to-a/../away")
    (tmp_path / "round").symlink_to("round")
    return tmp_path


def there(path: Path) -> Target:
    return Target(os.fsencode(path), Stamp.of(os.lstat(path)))


def absent(path: Path) -> Target:
    return Target(os.fsencode(path), ABSENT)


def resolve(resolver, tid, text, *, dirfd=AT_FDCWD, follow=True, **more):
    return resolver.resolve(tid, dirfd, os.fsencode(text), follow=follow, **more)


FOUND = {
    "a/file": "a/file",
    "./a//./file": "a/file",
    "to-a/file": "a/file",
    "empty/../a/file": "a/file",
    "to-a/../a/file": "a/file",
    "a/to-file": "a/file",
    "to-a/to-file": "a/file",
    "a": "a",
    "a/": "a",
    "to-a/": "a",
    ".": ".",
    "a/..": ".",
}
NOT_THERE = {
    "new": "new",
    "to-a/new": "a/new",
    "empty/../new": "new",
    "away": "a/nothing",
    "far-away": "a/nothing",
    "new/": "new",
}
NOWHERE = ["none/new", "a/file/new", "round", "round/new", "away/new", "x" * 256, "none/..", "none/.", ""]


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize(("text", "path"), FOUND.items())
def test_what_is_there(resolver, tree, text, path, absolute):
    with process(lambda: os.chdir(tree)) as child:
        text = f"{tree}/{text}" if absolute else text
        assert resolve(resolver, child, text) == there(tree / path)


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
@pytest.mark.parametrize(("text", "path"), NOT_THERE.items())
def test_what_is_not_there_yet(resolver, tree, text, path, absolute):
    with process(lambda: os.chdir(tree)) as child:
        text = f"{tree}/{text}" if absolute else text
        assert resolve(resolver, child, text) == absent(tree / path)


@pytest.mark.parametrize("text", NOWHERE)
def test_a_call_that_must_fail_has_no_target(resolver, tree, text):
    with process(lambda: os.chdir(tree)) as child, pytest.raises(NoTarget):
        resolve(resolver, child, text)


@pytest.mark.parametrize("text", ["a/to-file", "to-a", "away", "round"])
def test_a_link_in_the_last_place_is_not_followed_unless_the_call_does(resolver, tree, text):
    with process(lambda: os.chdir(tree)) as child:
        assert resolve(resolver, child, text, follow=False) == there(tree / text)


def test_a_long_chain_of_links(resolver, tree):
    (tree / "link0").symlink_to("a/file")
    for number in range(1, 41):
        (tree / f"link{number}").symlink_to(f"link{number - 1}")
    with process(lambda: os.chdir(tree)) as child:
        assert resolve(resolver, child, "link39") == there(tree / "a/file")
        with pytest.raises(OSError):
            open(tree / "link40", "a").close()
        with pytest.raises(NoTarget):
            resolve(resolver, child, "link40")


@pytest.mark.parametrize("name", [b"new\nline", b"\xff\xfe", b" ", b"-", b"x" * 255, b"a (deleted)"])
def test_any_name(resolver, tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name
    assert resolve(resolver, ME, path) == Target(path, ABSENT)
    open(path, "w").close()
    assert resolve(resolver, ME, path) == Target(path, Stamp.of(os.stat(path)))


# ---------------------------------------------------------------------------------- the thread's folders and descriptors


def test_relative_to_an_open_folder(resolver, tree):
    def stand() -> None:
        os.dup2(os.open(tree / "a", os.O_RDONLY), 100)
        os.chdir("/")

    with process(stand) as child:
        assert resolve(resolver, child, "file", dirfd=100) == there(tree / "a/file")
        assert resolve(resolver, child, "../away", dirfd=100) == absent(tree / "a/nothing")
        assert resolve(resolver, child, tree / "away", dirfd=100) == absent(tree / "a/nothing")


def test_a_bad_descriptor_leads_nowhere(resolver, tree):
    with process(lambda: os.dup2(os.open(tree / "a/file", os.O_RDONLY), 100)) as child:
        for dirfd in (100, 101, -1):
            with pytest.raises(NoTarget):
                resolve(resolver, child, "new", dirfd=dirfd)


def test_after_fchdir(resolver, tree):
    with process(lambda: os.fchdir(os.open(tree / "to-a", os.O_RDONLY))) as child:
        assert resolve(resolver, child, "new") == absent(tree / "a/new")


def test_in_a_folder_that_was_removed(resolver, tree):
    with process(lambda: os.chdir(tree / "empty")) as child:
        (tree / "empty").rmdir()
        for text in ("new", "./new"):
            with pytest.raises(NoTarget):
                resolve(resolver, child, text)
        assert resolve(resolver, child, "../new") == absent(tree / "new")  # it still knows where it was
        assert resolve(resolver, child, tree / "new") == absent(tree / "new")


def test_in_a_folder_that_was_renamed(resolver, tree):
    with process(lambda: os.chdir(tree / "empty")) as child:
        (tree / "empty").rename(tree / "other")
        assert resolve(resolver, child, "new") == absent(tree / "other/new")


def test_a_thread_with_a_folder_of_its_own(resolver, tree):
    def stand() -> None:
        placed = threading.Event()

        def wander() -> None:
            assert libc.unshare(0x200) == 0  # CLONE_FS
            os.chdir(tree / "a")
            placed.set()
            threading.Event().wait()

        os.chdir(tree)
        threading.Thread(target=wander, daemon=True).start()
        placed.wait()

    with process(stand) as child:
        (thread,) = {int(name) for name in os.listdir(f"/proc/{child}/task")} - {child}
        assert resolve(resolver, child, "new") == absent(tree / "new")
        assert resolve(resolver, thread, "new") == absent(tree / "a/new")


def test_a_process_that_is_gone(resolver, tree):
    with process(lambda: None) as child:
        pass
    for text in ("new", tree / "new"):
        with pytest.raises((NoTarget, FileNotFoundError)):
            resolve(resolver, child, text)


# ------------------------------------------------------------------------------------------------------ through /proc


@pytest.mark.parametrize(
    "text",
    [
        "/dev/stdout",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "/proc/thread-self/fd/1",
        "/proc/{pid}/fd/1",
        "//proc//self/fd/1",
        "/proc/../proc/self/fd/1",
        "{tree}/to-stdout",
        "{tree}/to-fds/1",
    ],
)
def test_what_is_its_own_in_proc_is_the_threads_not_ours(resolver, tree, text):
    (tree / "to-stdout").symlink_to("/dev/stdout")
    (tree / "to-fds").symlink_to("/proc/self/fd")
    with process(lambda: os.dup2(os.open(tree / "a/file", os.O_WRONLY), 1)) as child:
        assert resolve(resolver, child, text.format(pid=child, tree=tree)) == there(tree / "a/file")


@pytest.mark.parametrize("text", ["/proc/self/cwd/new", "{tree}/here/new", "/proc/self/fd/100/new"])
def test_a_door_in_the_middle_of_the_way(resolver, tree, text):
    (tree / "here").symlink_to("/proc/self/cwd")

    def stand() -> None:
        os.chdir(tree / "a")
        os.dup2(os.open(".", os.O_RDONLY), 100)

    with process(stand) as child:
        assert resolve(resolver, child, text.format(tree=tree)) == absent(tree / "a/new")


def test_relative_to_proc(resolver, tree):
    def stand() -> None:
        os.dup2(os.open(tree / "a/file", os.O_WRONLY), 100)
        os.chdir("/proc")

    with process(stand) as child:
        assert resolve(resolver, child, "self/fd/100") == there(tree / "a/file")


@pytest.mark.parametrize(
    "text", ["/proc/self/comm", "/proc/self/none", "/proc/sys/kernel/x", "/sys/x", "/proc/x"]
)
def test_the_kernels_own_files_are_no_targets(resolver, text):
    with pytest.raises(NoTarget):
        resolve(resolver, ME, text)


def test_a_pipe_is_what_it_is(resolver):
    ends = os.pipe()
    try:
        found = resolve(resolver, ME, f"/proc/self/fd/{ends[1]}")
    except NoTarget:
        return
    finally:
        for end in ends:
            os.close(end)
    assert not found.stamp.regular


def test_a_file_without_a_name_has_no_target(resolver, tree):
    fd = os.open(tree, os.O_TMPFILE | os.O_RDWR)
    with pytest.raises(NoTarget):
        resolve(resolver, ME, f"/proc/self/fd/{fd}")
    os.close(fd)


def test_a_removed_file_that_is_open_is_not_taken_for_another(resolver, tree):
    fd = os.open(tree / "a/file", os.O_RDWR)
    (tree / "a/file").unlink()
    with pytest.raises(NoTarget):
        resolve(resolver, ME, f"/proc/self/fd/{fd}")
    (tree / "a/file").write_text("another")
    with pytest.raises(NoTarget):
        resolve(resolver, ME, f"/proc/self/fd/{fd}")
    assert resolve(resolver, ME, tree / "a/file") == there(tree / "a/file")
    os.close(fd)


def test_files_that_come_and_go_are_never_named_deleted(resolver, tree):
    """One process makes and removes a file as fast as it can: what we look up is there or not there, under its name."""
    path = tree / "flicker"
    code = "import os, sys\nwhile True:\n os.close(os.open(sys.argv[1], os.O_CREAT)); os.unlink(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, path]) as flickering:
        try:
            seen = {resolve(resolver, ME, path).path for _ in range(4000)}
        finally:
            flickering.kill()
    assert seen == {os.fsencode(path)}


def test_no_descriptor_is_left_behind(resolver, tree):
    texts = [*FOUND, *NOT_THERE, *NOWHERE, "/proc/self/fd/0", "/proc/self/cwd/none/x", "/dev/stdout"]
    with process(lambda: os.chdir(tree)) as child:
        resolve(resolver, child, "new")  # one is kept: the thread's folder in /proc
    before = len(os.listdir("/proc/self/fd"))
    with process(lambda: os.chdir(tree)) as child:
        for text in texts:
            for dirfd in (AT_FDCWD, -1):
                for in_root in (False, True):
                    try:
                        resolve(resolver, child, text, dirfd=dirfd, in_root=in_root)
                    except (NoTarget, OSError):
                        pass
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------------- other roots and rights


@pytest.fixture
def jail(tree):
    (tree / "jail/data").mkdir(parents=True)
    (tree / "jail/data/file").write_text("inside")
    (tree / "jail/to-data").symlink_to("/data")
    (tree / "jail/up").symlink_to("../../../data")
    (tree / "data").mkdir()
    return tree / "jail"


@pytest.mark.parametrize("in_root", [False, True], ids=["chroot", "RESOLVE_IN_ROOT"])
def test_in_another_root(resolver, jail, in_root):
    """Absolute links and `..` stay in it, as they do for the process."""

    def stand() -> None:
        os.dup2(os.open(jail, os.O_RDONLY), 100)
        if not in_root:
            os.chroot(jail)

    if not in_root and os.getuid() != 0:
        pytest.skip("only root may chroot")
    with process(stand) as child:
        for text in ("/data/file", "/to-data/file", "/up/file", "/../data/file", "/data/../../data/file"):
            assert resolve(resolver, child, text, dirfd=100, in_root=in_root) == there(jail / "data/file"), (
                text
            )
        for text in ("data/new", "to-data/new", "up/new", "data/../../data/new"):
            assert resolve(resolver, child, text, dirfd=100, in_root=in_root) == absent(jail / "data/new"), (
                text
            )


CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000


def unshare(flags: int) -> None:
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def can_unshare(flags: int) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def test_in_a_user_namespace(resolver, tree):
    if not can_unshare(CLONE_NEWUSER):
        pytest.skip("this kernel refuses user namespaces")

    def stand() -> None:
        unshare(CLONE_NEWUSER)
        os.chdir(tree)

    with process(stand) as child:
        assert resolve(resolver, child, "to-a/new") == absent(tree / "a/new")
        assert resolve(resolver, child, tree / "a/file") == there(tree / "a/file")


def test_in_a_mount_namespace_that_shows_the_same(resolver, tree):
    if not can_unshare(CLONE_NEWUSER | CLONE_NEWNS):
        pytest.skip("this kernel refuses mount namespaces")

    def stand() -> None:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        os.chdir(tree)

    with process(stand) as child:
        assert resolve(resolver, child, "to-a/new") == absent(tree / "a/new")
        assert resolve(resolver, child, tree / "a/file") == there(tree / "a/file")


def test_on_a_private_mount_there_is_no_path_that_we_see_too(resolver, tree):
    """Two ways to the same words: nothing of ours may be taken for it."""
    if not can_unshare(CLONE_NEWUSER | CLONE_NEWNS):
        pytest.skip("this kernel refuses mount namespaces")
    uid, gid = os.getuid(), os.getgid()

    def stand() -> None:
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        if libc.mount(b"tmpfs", os.fsencode(tree / "a"), b"tmpfs", 0, None) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        (tree / "a/private").write_text("x")
        os.chdir(tree / "a")

    with process(stand) as child:
        for text in ("private", "new", tree / "a/private", tree / "a/file"):
            with pytest.raises(OSError, match="mount namespace"):
                resolve(resolver, child, text)
        assert resolve(resolver, child, tree / "new") == absent(tree / "new")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may look into every folder and become another user")
def test_root_sees_where_the_script_cannot(resolver, tree):
    (tree / "a").chmod(0)
    with process(lambda: os.setresuid(65534, 65534, 65534)) as child:
        assert resolve(resolver, child, tree / "a/file").path == os.fsencode(tree / "a/file")


def test_a_path_over_path_max_is_a_loss_not_a_silence(resolver, tmp_path):
    def stand() -> None:
        os.chdir(tmp_path)
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)

    try:
        with process(stand) as child:
            for text in ("new", "../new"):
                with pytest.raises(OSError, match="PATH_MAX"):
                    resolve(resolver, child, text)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / ("d" * 250)], check=True)
