"""What every mode of capture must see: each way in which a program writes a file, as root and as an ordinary user.

Beside what a test asserts, `Bench.run` fails it when a file of the working folder changed unseen, or a call was lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gridkeep.capture.journal import EXCHANGE, Op
from tests.contract.captures import Bench

# ------------------------------------------------------------------------------------------------------- plain writing


def test_a_new_file(bench):
    seen = bench.sh("echo new > a")
    assert seen.calls == ["open a"]
    assert not seen.before("a").exists
    assert seen.mode == bench.mode


def test_an_input_is_recorded_as_it_was(bench):
    before = bench.file("a").stat()
    for text in ("echo more >> a", "echo else > a", "printf X | dd of=a conv=notrunc status=none"):
        before = (bench.work / "a").stat()
        seen = bench.sh(text)
        assert seen.calls == ["open a"]
        stamp = seen.before("a")
        assert (stamp.dev, stamp.ino) == (before.st_dev, before.st_ino)
        assert (stamp.size, stamp.mtime_ns, stamp.ctime_ns) == (
            before.st_size,
            before.st_mtime_ns,
            before.st_ctime_ns,
        )


def test_reading_is_not_recorded(bench):
    bench.file("a")
    seen = bench.sh("cat a; cat < a; ls -l; test -r a; find .; ls /proc/self/fd > /dev/null")
    assert seen.records == []
    assert seen.output.startswith("old\nold\n")
    assert seen.counters["notices"] <= 1  # the open of /dev/null


def test_an_open_that_fails_is_harmless(bench):
    bench.file("a")
    seen = bench.py(
        """
        import os
        for path, flags in (("a", os.O_CREAT | os.O_EXCL | os.O_WRONLY), ("none/b", os.O_CREAT | os.O_WRONLY)):
            try:
                os.open(path, flags)
            except FileExistsError:
                print("exists")
            except FileNotFoundError:
                print("none")
        """
    )
    assert seen.output == "exists\nnone\n"
    assert seen.calls == ["open a"]


def test_truncate_by_name(bench):
    bench.file("a", "0123456789")
    seen = bench.py("import os; os.truncate('a', 3)")
    assert seen.calls == ["truncate a"]
    assert seen.before("a").size == 10


@pytest.mark.parametrize(
    "flags", ["O_RDONLY | os.O_TRUNC", "O_RDONLY | os.O_CREAT", "O_RDWR", "O_WRONLY | os.O_APPEND"]
)
def test_every_flag_that_can_write(bench, flags):
    bench.file("a")
    seen = bench.py(f"import os; os.open('a', os.{flags}); os.open('b', os.{flags} | os.O_CREAT)")
    assert seen.calls == ["open a", "open b"]


def test_remove_and_write_again(bench):
    bench.file("a")
    seen = bench.sh("rm a; echo new > a; rm a; mkdir d; rmdir d")
    assert seen.calls == ["unlink a", "open a", "unlink a"]


def test_redirections(bench):
    seen = bench.sh(
        """
        echo 1 > a; echo 2 >> a; echo 3 <> b 1>&0; { echo 4; echo 5 >&2; } > c 2>&1; echo 6 | tee d > e; cat > f <<'END'
        7
        END
        ( exec 3> g; echo 8 >&3; sh -c 'echo 9 >&3' ); echo ten | (cd /; cat) > h
        """
    )
    assert seen.files == set("abcdefgh")
    for name, text in {
        "b": "3\n",
        "c": "4\n5\n",
        "d": "6\n",
        "e": "6\n",
        "g": "8\n9\n",
        "h": "ten\n",
    }.items():
        assert (bench.work / name).read_text() == text


NAMES = [
    b"new\nline",
    b"\xff\xfe\x80",
    b"x" * 255,
    b" ",
    b"-rf",
    b"*",
    b".hidden",
    "ü–漢".encode(),
    b"a\\b",
    b"a (deleted)",
]


def test_names_of_every_kind(bench):
    seen = bench.py(
        """
        import os, sys
        for name in map(os.fsencode, sys.argv[1:]):
            with open(name, "w") as file:
                file.write("new")
            os.rename(name, name[:200] + b".2")
        """,
        *NAMES,
    )
    assert seen.files == {os.fsdecode(name) for name in NAMES} | {
        os.fsdecode(name[:200] + b".2") for name in NAMES
    }


def test_dates_beyond_any_calendar(bench):
    seen = bench.py(
        """
        import os
        for year, name in ((2400, "a"), (1800, "b")):
            open(name, "w").close()
            os.utime(name, (0, (year - 1970) * 31556952))
            open(name, "a").close()
            os.rename(name, name + "2")
        """
    )
    assert seen.calls == ["open a", "open a", "rename a a2", "open b", "open b", "rename b b2"]


# ---------------------------------------------------------------------------------------------------- names and places


def test_rename_over(bench):
    bench.file("target")
    seen = bench.py("import os; open('temporary', 'w').close(); os.replace('temporary', 'target')")
    assert seen.calls == ["open temporary", "rename temporary target"]
    assert seen.before("target").size == 4


def test_rename_of_a_folder_with_an_open_file_in_it(bench):
    seen = bench.sh("mkdir -p d/e; exec 3> d/e/f; echo 1 >&3; mv d g; echo 2 >&3; echo 3 > g/e/h")
    assert seen.calls == ["open d/e/f", "rename d g", "open g/e/h"]


def test_exchange(bench, writers):
    bench.file("a"), bench.file("b", "other\n")
    seen = bench.run(writers / "writer", "exchange", "a", "b")
    (record,) = (each for each in seen.records if each.op is Op.RENAME)
    assert record.marks == EXCHANGE
    assert seen.calls == ["rename a b"]
    assert [stamp.size for _, stamp in record.paths] == [4, 6]


def test_links(bench):
    bench.file("a")
    seen = bench.sh(
        "ln a hard; ln -s a soft; ln -s nothing dangling; echo 1 >> soft; echo 2 > dangling; echo 3 >> hard"
    )
    assert seen.calls == [
        "link a hard",
        "symlink soft",
        "symlink dangling",
        "open a",
        "open nothing",
        "open hard",
    ]
    assert not seen.before("nothing").exists


def test_folders_through_links(bench):
    seen = bench.sh(
        "mkdir real; ln -s real link; echo 1 > link/a; cd link; echo 2 > b; echo 3 > ../link/c; mv a ../d"
    )
    assert seen.calls == ["symlink link", "open real/a", "open real/b", "open real/c", "rename real/a d"]


def test_the_doors_of_proc_are_the_scripts_own(bench):
    seen = bench.sh(
        """
        ln -s /proc/self/cwd here; echo 1 > here/a; mkdir d; cd d; echo 2 > ../here/b; echo 3 > /proc/self/cwd/c
        exec 7> e; cd /proc; echo 4 > self/fd/7; cd self/cwd; echo 5 > /proc/$$/cwd/../proc/$$/fd/7
        """
    )
    assert seen.calls == [
        "symlink here",
        "open a",
        "open d/b",
        "open d/c",
        "open d/e",
        "open d/e",
        "open d/e",
    ]


def test_in_another_root(bench):
    """Absolute links and `..` stay in it."""
    if not bench.is_root:
        pytest.skip("only root may chroot")
    seen = bench.py(
        """
        import os
        os.makedirs("jail/data")
        os.symlink("/data", "jail/link")
        os.symlink("../../../data/late", "jail/dangling")
        os.chroot("jail")
        for name in ("/a", "/data/b", "/link/c", "/../../d", "/dangling", "jail/link/e"):
            open(name, "w").close()
        """
    )
    names = ["jail/a", "jail/data/b", "jail/data/c", "jail/d", "jail/data/late", "jail/data/e"]
    assert seen.calls == ["symlink jail/link", "symlink jail/dangling", *(f"open {name}" for name in names)]


def test_a_path_that_leads_elsewhere_from_now_on(bench):
    """The same text before and after, absolute and relative: one has gone into another root, the other has stayed."""
    if not bench.is_root:
        pytest.skip("only root may chroot")
    seen = bench.py(
        """
        import os
        text = os.getcwd() + "/jail/a"
        os.makedirs("jail" + os.getcwd() + "/jail")
        open(text, "w").close()
        if os.fork() == 0:
            os.chroot("jail")
            for name in (text, "b"):
                open(name, "w").close()
            os._exit(0)
        os.wait()
        for name in (text, "b"):
            open(name, "w").close()
        """
    )
    inside = f"jail{bench.work}/jail/a"
    assert seen.calls == ["open jail/a", f"open {inside}", "open b", "open jail/a", "open b"]


def test_a_path_too_long_for_the_kernel_is_recorded_or_named_as_lost(bench):
    seen = bench.start_py(
        """
        import os
        for _ in range(20):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        open("deep", "w").close()
        """
    ).seen()
    assert seen.ending.exit_code == 0
    deep = "/".join(["d" * 250] * 20 + ["deep"])
    assert seen.calls == [f"open {deep}"] or "PATH_MAX" in seen.losses[0], seen
    subprocess.run(["rm", "-rf", bench.work / ("d" * 250)], check=True)


def test_files_that_come_and_go_keep_their_names(bench):
    """Several make and remove the same files at once: what is seen half removed is recorded under its name all the same."""
    seen = bench.py(
        """
        import os
        for _ in range(4):
            if os.fork() == 0:
                for number in range(300):
                    name = f"f{number % 3}"
                    try:
                        os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
                        os.unlink(name)
                    except FileNotFoundError:
                        pass
                os._exit(0)
        for _ in range(4):
            os.wait()
        """
    )
    assert seen.files == {"f0", "f1", "f2"}
    assert sum(call.startswith("open") for call in seen.calls) == 4 * 300


def test_relative_to_descriptors_and_after_fchdir(bench):
    seen = bench.py(
        """
        import os
        os.makedirs("d/e")
        folder = os.open("d", os.O_RDONLY)
        os.chdir("/")
        os.close(os.open("a", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
        os.rename("a", "e/b", src_dir_fd=folder, dst_dir_fd=folder)
        os.link("e/b", "c", src_dir_fd=folder, dst_dir_fd=folder)
        os.unlink("e/b", dir_fd=folder)
        os.mknod("f", dir_fd=folder)
        os.fchdir(folder)
        os.rename("../d", "../g")
        open("h", "w").close()
        """
    )
    assert seen.calls == [
        "open d/a",
        "rename d/a d/e/b",
        "link d/e/b d/c",
        "unlink d/e/b",
        "mknod d/f",
        "rename d g",
        "open g/h",
    ]


def test_outside_the_working_folder(bench):
    other = bench.folder("other")
    places = [other, Path("/dev/shm")]
    name = f"gridkeep-{os.getpid()}-{bench.root.name}"
    try:
        seen = bench.sh(
            "\n".join(
                f"echo new > {place}/{name}; ln -s {place}/{name} in-{number}; echo 2 >> in-{number}"
                for number, place in enumerate(places)
            )
        )
    finally:
        for place in places:
            (place / name).unlink()
    paths = [path for each in seen.records for path, _ in each.paths]
    for place in places:
        assert paths.count(os.fsencode(place / name)) == 2


def test_mode_000_and_read_only_folders(bench):
    seen = bench.sh(
        """
        echo 1 > a; chmod 000 a; mkdir d; echo 2 > d/b; chmod 555 d; echo 3 > d/c || true; chmod 000 d
        echo 4 > d/e || true; echo 5 > a || true; chmod 700 d
        """
    )
    assert seen.files == {"a", "d/b", "d/c", *(["d/e"] if bench.is_root else [])}


def test_what_devices_and_the_kernel_are_told_is_no_file(bench):
    seen = bench.sh(
        "echo 1 > /dev/null; echo name > /proc/self/comm; mkfifo p; cat p & echo 1 > p; wait; : > /dev/zero"
    )
    assert seen.records == []


# ------------------------------------------------------------------------------------------- descriptors and mappings


def test_a_nameless_file_that_gets_a_name(bench, writers):
    seen = bench.run(writers / "writer", "tmpfile", "a")
    (record,) = seen.records
    assert record.op is Op.LINK
    assert seen.files == {"a"}


def test_a_nameless_file_that_gets_a_name_by_its_descriptor(bench, writers):
    seen = bench.run(writers / "writer", "tmpfile-empty-path", "a", code=0 if bench.is_root else None)
    assert seen.files == {"a"}


def test_a_mapping_whose_descriptor_is_closed(bench, writers):
    assert bench.run(writers / "writer", "mmap", "a").calls == ["open a"]


def test_copies_within_the_kernel(bench):
    bench.file("in", "x" * 10000)
    seen = bench.py(
        """
        import os
        source = os.open("in", os.O_RDONLY)
        def target(name):
            os.lseek(source, 0, os.SEEK_SET)
            return os.open(name, os.O_CREAT | os.O_WRONLY)
        assert os.copy_file_range(source, target("a"), 10000) == 10000
        assert os.sendfile(target("b"), source, 0, 10000) == 10000
        out, into = os.pipe()
        third = target("c")
        assert os.splice(source, into, 10000) == os.splice(out, third, 10000) > 0
        """
    )
    assert seen.calls == ["open a", "open b", "open c"]


def test_inherited_duplicated_and_passed_descriptors(bench):
    seen = bench.py(
        """
        import os, socket, subprocess
        a = os.open("a", os.O_CREAT | os.O_WRONLY)
        subprocess.run(["sh", "-c", f"echo inherited >&{a}"], pass_fds=[a], check=True)
        os.write(os.dup(a), b"duplicated\\n")
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            (fd,) = socket.recv_fds(theirs, 1, 1)[1]
            os.write(fd, b"passed")
            os._exit(0)
        socket.send_fds(ours, [b"x"], [os.open("b", os.O_CREAT | os.O_WRONLY)])
        os.wait()
        """
    )
    assert seen.calls == ["open a", "open b"]
    assert (bench.work / "b").read_text() == "passed"


def test_the_output_log_opened_by_name_is_not_cut_off(bench):
    seen = bench.sh(
        """
        echo 1; echo 2 > /dev/stderr; echo 3 > /dev/stdout; echo 4 >> /proc/self/fd/1; echo 5 > /dev/fd/2
        sh -c 'echo 6 > /dev/stderr'; echo 7 | tee /dev/stderr > /dev/null; ln -s /dev/stderr log; echo 8 > log; echo 9
        """
    )
    assert seen.output == "".join(f"{number}\n" for number in range(1, 10))
    assert [each.op for each in seen.records] == [Op.SYMLINK]


def test_a_redirected_stdout_opened_by_name_is_the_file(bench):
    seen = bench.sh("sh -c 'echo 1 > /dev/stdout' > a; sh -c 'echo 2 >> /proc/self/fd/5' 5> b")
    assert seen.calls == ["open a", "open a", "open b", "open b"]


# ------------------------------------------------------------------------------------------------------- raw calls in C


@pytest.mark.parametrize("program", ["writer", "writer-static"])
@pytest.mark.parametrize("how", ["raw", "creat", "vfork", "seccomp"])
def test_c_programs(bench, writers, program, how):
    assert bench.run(writers / program, how, "a").calls == ["open a"]


def test_mknod(bench, writers):
    assert bench.run(writers / "writer", "mknod", "a", "fifo").calls == ["mknod a"]


def test_openat2(bench, writers):
    (bench.work / "below").mkdir()
    bench.given(bench.work / "below")
    assert bench.run(writers / "writer", "openat2", "a").calls == ["open a", "open below/a"]


def test_32_bit_calls(bench, writers):
    seen = bench.run(writers / "writer", "int80", "a", "b", code=None)
    if seen.ending.exit_code == 77:
        pytest.skip("this kernel has no 32-bit calls")
    assert seen.ending.exit_code == 0
    assert seen.calls == ["open a", "truncate a", "rename a b"]


def test_io_uring_is_refused_so_that_programs_fall_back(bench, writers):
    seen = bench.run(writers / "writer", "io_uring", "a")
    assert seen.calls == ["open a"]
    assert seen.counters["io_uring"] == 1


def test_a_thread_whose_leader_is_gone(bench, writers):
    assert bench.run(writers / "writer", "leader-gone", "a", "b").calls == ["open a", "rename a b"]


def test_a_thread_in_a_folder_of_its_own(bench, writers):
    (bench.work / "below").mkdir()
    bench.given(bench.work / "below")
    seen = bench.run(writers / "writer", "own-folder", "a", "b")
    assert seen.calls == ["open below/a", "rename below/a below/b"]


def test_calls_that_fail_by_their_own_arguments_are_no_losses(bench, writers):
    assert bench.run(writers / "writer", "bad", "a").calls == ["open a"]


# --------------------------------------------------------------------------------------------------------- real programs


def test_tar(bench):
    seen = bench.sh(
        "mkdir -p in/d; echo 1 > in/a; echo 2 > in/d/b; ln in/a in/hard; tar cf t.tar in; mkdir out; tar xf t.tar -C out"
    )
    assert {"t.tar", "out/in/a", "out/in/d/b", "out/in/hard"} <= seen.files


def test_git(bench):
    if shutil.which("git") is None:
        pytest.skip("no git here")
    seen = bench.sh(
        """
        git init -q r; cd r; git config user.email a@b; git config user.name a
        echo 1 > a; git add a; git commit -qm 1; git checkout -qb x
        echo 2 > a; git commit -qam 2; git checkout -q -; git gc -q
        """
    )
    assert {"r/a", "r/.git/HEAD", "r/.git/index.lock"} <= seen.files


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite(bench, journal):
    seen = bench.py(
        f"""
        import sqlite3
        db = sqlite3.connect("data.db")
        db.execute("pragma journal_mode={journal}")
        for round in range(3):
            db.execute(f"create table t{{round}} (x)")
            db.executemany(f"insert into t{{round}} values (?)", [(x,) for x in range(1000)])
            db.commit()
        """
    )
    beside = {"delete": {"data.db-journal"}, "wal": {"data.db-wal", "data.db-shm"}}[journal]
    assert seen.files >= {"data.db"} | beside


def test_make(bench):
    if shutil.which("make") is None:
        pytest.skip("no make here")
    bench.file("Makefile", "all: b c\nb c: a\n\tcp a $@\n")
    bench.file("a")
    assert bench.sh("make -j2").files >= {"b", "c"}


def test_a_debugger(bench):
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    assert bench.sh("strace -f -o trace sh -c 'echo new > a'").files == {"trace", "a"}


# ------------------------------------------------------------------------------------------------- rights and namespaces


def test_a_user_namespace(bench):
    seen = bench.sh("unshare -Ur sh -c 'echo new > a; mkdir d; echo 2 > d/b; mv a c'", code=None)
    if seen.ending.exit_code != 0:
        pytest.skip(f"no user namespaces here: {seen.output}")
    assert seen.calls == ["open a", "open d/b", "rename a c"]


def test_what_lies_on_a_private_mount_is_named_as_lost(bench):
    text = "mkdir m; unshare -Urm sh -ec 'mount -t tmpfs none m; echo new > m/a; echo 2 > b' || exit 9"
    trial = bench.start("/bin/sh", "-ec", text).seen()
    if trial.ending.exit_code != 0:
        pytest.skip(f"no mount namespaces here: {trial.output}")
    assert trial.counters["lost"] == 1
    assert trial.losses == ["open of sh: m/a (in a mount namespace of its own)"]
    assert trial.calls == ["open b"]


def test_a_path_under_which_something_is_mounted_from_now_on(bench):
    text = """
        mkdir m; echo new > m/a; echo new > "$PWD/m/a"
        unshare -Urm sh -ec 'mount -t tmpfs none m; echo 2 > "$PWD/m/a"' || exit 9
        echo 3 > "$PWD/m/a"; unshare -Ur true; echo 4 > "$PWD/m/b"
        """
    trial = bench.start("/bin/sh", "-ec", text).seen()
    if trial.ending.exit_code != 0:
        pytest.skip(f"no mount namespaces here: {trial.output}")
    assert trial.losses == [f"open of sh: {bench.work}/m/a (in a mount namespace of its own)"]
    assert trial.calls == ["open m/a", "open m/a", "open m/a", "open m/b"]


def test_an_ordinary_user_gains_no_rights_and_root_keeps_them(bench):
    seen = bench.sh("grep NoNewPrivs /proc/self/status")
    assert seen.output.split() == ["NoNewPrivs:", "0" if bench.is_root else "1"]


def test_a_process_that_may_not_be_inspected(bench, writers):
    """Exact as root; said to be lost, and by whom, as an ordinary user."""
    seen = bench.start(writers / "writer", "non-dumpable", "a").seen()
    assert seen.ending.exit_code == 0
    check_inspection(bench, seen)


def test_a_program_that_may_not_be_read(bench, writers):
    program = Path(shutil.copy(writers / "writer", bench.root / "unreadable"))
    program.chmod(0o111)
    seen = bench.start(program, "raw", "a").seen()
    assert seen.ending.exit_code == 0
    check_inspection(bench, seen)


def check_inspection(bench: Bench, seen) -> None:
    assert (bench.work / "a").exists()
    if bench.is_root:
        assert seen.calls == ["open a"]
        assert seen.counters["lost"] == 0
    else:
        (loss,) = seen.losses
        assert "writer" in loss or "unreadable" in loss
        assert (seen.counters["lost"], seen.counters["unreadable"]) == (1, 1)


def test_a_file_opened_by_its_handle_is_named_as_lost(bench):
    if not bench.is_root:
        pytest.skip("only root may open files by their handles")
    bench.file("a")
    seen = bench.start_py(
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        handle = ctypes.create_string_buffer((128).to_bytes(4, "little"), 136)
        mount = ctypes.c_int()
        assert libc.name_to_handle_at(-100, b"a", handle, ctypes.byref(mount), 0) == 0
        folder = os.open(".", os.O_RDONLY)
        assert libc.open_by_handle_at(folder, handle, os.O_RDONLY) > 0
        assert os.write(libc.open_by_handle_at(folder, handle, os.O_WRONLY), b"new") == 3
        """
    ).seen()
    assert seen.ending.exit_code == 0, seen
    (loss,) = seen.losses
    assert "opened by handle" in loss
    assert seen.counters["lost"] == 1
