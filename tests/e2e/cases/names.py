"""Names: renamed, linked, exchanged, reached on other ways, and of every kind."""

from __future__ import annotations

import os

from .base import Loss, cannot, case, put, sh, writer

NAMES = [
    *(b"new\nline", b"\n", b"tab\there", b"\x1b[31mred\x07", b"\x7f\x01", b"'single'", b'"double"', b"back\\slash", b"\\"),
    *(b"%2F%00", b"a&b=c#d?e", b"*", b"[x]", b"{y}", b"~", b"$HOME", b"`id`", b" lead", b"trail ", b" ", b"-rf", b"--help"),
    *(b"a (deleted)", b".hidden", b"...", b"..x", b"_abs", b"_enc", b"a.partial", b"manifest.jsonl", b"UPPER", b"upper"),
    *(b"\xff", b"ok\xffnot", b"\xed\xa0\x80", "e\u0301 NFD".encode(), "\xe9 NFC".encode(), "漢字 🎉".encode()),
    *(b"x" * 255, b"\xff" * 255, b"\n" * 254 + b"-", ("ü" * 127).encode()),
]  # fmt: skip


@case()
def names_of_every_kind() -> None:
    for name in NAMES:
        put(name, b"a file: " + name)
        os.makedirs(b"folders/" + name)
        put(b"folders/" + name + b"/" + name, b"below: " + name)
    # The names under which a working copy's own `_abs` and `_enc` come back are the ones to look for at its root.


@case(comes_and_goes=(r"temporary|one|two|three|there",))
def rename() -> None:
    put("temporary")
    os.replace("temporary", "old")
    put("one", "goes from name to name\n")
    os.rename("one", "two")
    os.rename("two", "three")
    os.rename("three", "four")
    os.rename("other", "an input that was renamed")
    os.rename("data", "there")
    os.rename("there", "data")


@case(comes_and_goes=(r"made(/a)?",))
def exchange() -> None:
    put("new", "was new\n")
    writer("exchange", "new", "old")
    writer("exchange", "other", "data")
    os.mkdir("made")
    put("made/a", "a\n")
    writer("exchange", "made", "folder")


@case(comes_and_goes=(r"(d|g)(/e)?(/[fhk])?",))
def rename_of_a_folder_being_written_in() -> None:
    sh(
        """
        mkdir -p d/e; exec 3> d/e/f; echo 1 >&3; echo 2 > d/e/h; mv d g; echo 3 >&3; echo 4 > g/k; mv g i; echo 5 >&3
        echo 6 >> i/e/h; mv folder moved; echo 7 > moved/new
        """
    )


@case()
def hard_links() -> None:
    os.link("old", "another name of old")
    with open("another name of old", "a") as file:
        file.write("more\n")
    put("new")
    os.link("new", "another name of new")
    with open("new", "a") as file:
        file.write("more\n")
    os.link("other", "another name of an input")


@case()
def symbolic_links() -> None:
    sh(
        """
        ln -s old soft; echo 1 >> soft; ln -s made-through-it dangling; echo 2 > dangling; ln -s loop loop
        ln -s "$PWD/absolute" to; echo 3 > to; ln -s folder way; echo 4 > way/new; cd way; echo 5 > ../way/inner
        ln -s nowhere never
        """
    )


@case(comes_and_goes=(r"#\d+",))
def nameless_files() -> None:
    """In mode watch the number that the kernel gives such a file while it has no name may pass for one."""
    writer("tmpfile", "named later")


@case(comes_and_goes=(r"d/e(/[fg])?",))
def relative_to_descriptors() -> None:
    """In mode watch what is written in a folder that was renamed a moment ago may be told of under the old name."""
    os.makedirs("d/e")
    folder = os.open("d", os.O_RDONLY)
    os.chdir("/")
    for name in ("a", "e/f"):
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=folder)
        os.write(fd, b"new\n")
        os.close(fd)
    os.link("a", "c", src_dir_fd=folder, dst_dir_fd=folder)
    os.mknod("made", dir_fd=folder)
    os.fchdir(folder)
    put("after fchdir")
    os.chdir("..")
    os.rename("d/e", "moved", src_dir_fd=os.open(".", os.O_RDONLY))
    put("moved/g")


@case()
def doors_of_proc() -> None:
    sh(
        """
        ln -s /proc/self/cwd here; echo 1 > here/a; mkdir d; cd d; echo 2 > ../here/b; exec 7> e
        cd /proc; echo 4 > self/fd/7; cd self/cwd; echo 5 >> /proc/$$/fd/7
        """
    )


@case()
def another_root() -> None:
    if os.getuid() != 0:
        cannot("only root may chroot")
    os.makedirs("jail/data")
    os.symlink("/data", "jail/link")
    os.chroot("jail")
    for name in ("/a", "/data/b", "/link/c", "/../../d"):
        put(name, f"{name}\n")


DEEP = "d" * 250


@case(
    losses=(
        Loss("File name too long", path=r"(d{250}/){20}deep", modes=("c",)),
        Loss("over PATH_MAX", hides=r"/deep$", modes=("python",)),
        Loss("File name too long", path=r"d{250}(/d{250})+", hides=r"/deep$", modes=("watch",)),
    ),
)
def path_max() -> None:
    """A path that the kernel makes but does not take."""
    for _ in range(20):
        os.mkdir(DEEP)
        os.chdir(DEEP)
    put("deep")
