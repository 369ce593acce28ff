"""Any file name that the kernel accepts comes back as the same bytes, under the same name."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gridkeep.supervisor.copying import remove_tree
from tests.e2e.support import contents, downloaded, experiment, ran, save, submitted
from tests.support import Grid, wait_for

NAMES = [
    *(b"new\nline", b"\n", b"tab\there", b"\x1b[31mred\x07", b"\x7f\x01"),
    *(b"100%", b"%2F%00", b"%41", b"a&b=c", b"?q#f", b"a+b", b"*", b"[x]", b"{y}", b"~", b"$HOME", b"`id`"),
    *(b"with space", b" lead", b"trail ", b"  ", b"-rf", b"--help", b".", b"..")[:-2],
    *(
        b".hidden",
        b"...",
        b"..x",
        b"x.",
        b"'single'",
        b'"double"',
        b"back\\slash",
        b"\\",
        b"a:b",
        b"<>|",
        b";",
    ),
    *("emoji 🎉".encode(), "é".encode(), "e\u0301".encode(), "日本語".encode(), "\u202egnp.exe".encode()),
    *(b"\xff", b"\xff\xfe\xfd", b"ok\xffnot", "é".encode("latin-1"), b"\xed\xa0\x80"),
    *(b"x" * 255, b"y" * 240, b"z" * 241, ("ü" * 127).encode(), b"\xff" * 255, b"\n" * 255),
    *(b"byte " + bytes([number]) for number in range(1, 256) if number != ord("/")),
    *(b"CON", b"nul.txt", b"UPPER", b"upper", b"a.partial", b".gridkeep", b"manifest.jsonl", b"output.log"),
]

WRITE = """
import base64, json, os
names = [base64.b64decode(name) for name in json.load(open("names.json"))]
for name in names:
    with open(name, "wb") as file: file.write(b"at the top: " + name)
    os.makedirs(b"folders/" + name)
    with open(b"folders/" + name + b"/" + name, "wb") as file: file.write(b"below: " + name)
"""


def test_every_name_comes_back(any_user: Grid) -> None:
    save(any_user, str([base64.b64encode(name).decode() for name in NAMES]).replace("'", '"'), "names.json")
    one = ran(any_user, WRITE, name="names")
    assert (one["state"], one["missing"], one["artifacts"]) == ("completed", 0, 2 * len(NAMES))
    assert downloaded(any_user, "names-exp0") == {
        **{name: b"at the top: " + name for name in NAMES},
        **{b"folders/" + name + b"/" + name: b"below: " + name for name in NAMES},
    }
    assert (
        any_user("verify", "--deep", "names").stdout
        == f"names-exp0: {2 * len(NAMES)} of {2 * len(NAMES)} verified\n"
    )
    for each in any_user.json("artifacts", "names"):
        path = base64.b64decode(each["path_b64"]) if "path_b64" in each else each["path"].encode()
        assert path.rpartition(b"/")[2] in NAMES
    for shown in (any_user("ls", "names"), any_user("artifacts", "names")):
        assert "\x1b" not in shown.stdout + shown.stderr, "a name drives the terminal"


def test_names_outside_of_the_working_copy(grid: Grid, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/out\n%\xff"
    ran(grid, f"import os; os.mkdir({folder!r}); open({folder!r} + b'/na\\\\me', 'w').write('x')", name="o")
    assert downloaded(grid, "o-exp0") == {b"_abs/" + folder[1:] + b"/na\\me": b"x"}


def test_a_deep_path_up_to_the_kernels_limit(grid: Grid) -> None:
    """4,000 bytes of path, in folders of 200: more than any key may have."""
    ran(
        grid,
        """
        import os
        for i in range(12):
            name = f"{i:0200}"
            os.mkdir(name); os.chdir(name)
        open("deep", "w").write("x")
        """,
        name="d",
    )
    path = b"/".join(b"%0200d" % i for i in range(12)) + b"/deep"
    assert downloaded(grid, "d-exp0") == {path: b"x"}
    assert grid("cat", b"d-exp0:" + path).stdout == "x"


@pytest.fixture
def removable(tmp_path: Path) -> Iterator[Path]:
    """A folder for trees that are too deep for pytest to remove."""
    yield tmp_path
    for left in tmp_path.iterdir():
        remove_tree(str(left))


@pytest.mark.parametrize("levels", [1500, 2500])
def test_a_tree_deeper_than_anybody_would_climb(grid: Grid, removable: Path, levels: int) -> None:
    """More levels than Python recurses, and than a path can name. What has a name comes back, and all is removed again."""
    submitted(
        grid,
        f"""
        import os
        for level in range({levels}):
            os.mkdir("d"); os.chdir("d")
            if level in (1, 1400): open("f", "w").write(str(level))
        open("last", "w").write("x")
        """,
        name="d",
    )
    (one,) = grid.finished("d")
    assert one["state"] == "completed"
    expected = {b"d/" * 2 + b"f": b"1", b"d/" * 1401 + b"f": b"1400"}
    if levels < 2000:
        expected[b"d/" * levels + b"last"] = b"x"
    assert one["missing"] == (levels > 2000), "what has no path is named as missing"
    target = removable / "got"
    grid("artifacts", "d-exp0", "--download_dir", target)
    for path, content in expected.items():
        assert open(os.path.join(os.fsencode(target), b"d-exp0", path), "rb").read() == content
    if one["missing"]:
        grid("delete", "--yes", "d")  # until then what is not in the store stays
    wait_for(lambda: [os.listdir(grid.home / each) for each in ("work", "journal")] == [[], []] or None)
    assert ran(grid, "open('f', 'w').write('x')", name="next")["state"] == "completed"


@pytest.mark.parametrize("name", ["a b", "ü", "per%cent"])
def test_projects_in_folders_of_any_name(grid: Grid, name: str) -> None:
    folder = grid.cwd / name
    folder.mkdir()
    (folder / "s.py").write_text("open('f', 'w').write('x')")
    grid("run", "--follow", "--name", "p", "s.py", cwd=folder)
    grid("artifacts", "p-exp0", cwd=folder)
    assert contents(folder / "grid_artifacts/p-exp0") == {b"f": b"x"}
    assert experiment(grid, "p-exp0")["command"] == "s.py"


def test_a_home_of_any_name(grid: Grid, tmp_path: Path) -> None:
    """The path of the table works as printed, with `%`, spaces and all."""
    home = tmp_path / "my 100% hômé"
    grid = grid.with_env(GRIDKEEP_HOME=str(home), MARK=str(grid.home))
    ran(grid, "open('f', 'w').write('x')", name="h")
    line = grid("artifacts", "--bucket_path", "h").stdout.splitlines()[3]
    path = line.split(" │ ", 1)[1].removesuffix(" │").strip()
    assert path.startswith(f"file://{home}/store/experiments/")
    assert os.listdir(path.removeprefix("file://")) == ["f"]
    assert downloaded(grid, "h-exp0") == {b"f": b"x"}
