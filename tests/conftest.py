"""Fixtures of all tests: a home that leaves no process behind, a project folder, and `grid` as this or an ordinary user."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from packaging.requirements import Requirement

import gridkeep
from tests.services import Service, azurite, gcs_front, make_bucket, s3_server
from tests.support import Grid, end_processes_of, environment

BIN = Path(sys.executable).parent
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is no finding
hypothesis.settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Compiles what the tests' many processes import: where PYTHONDONTWRITEBYTECODE is set each would do so again."""
    if not hasattr(config, "workerinput"):  # xdist's own processes come after this one
        for package in _needed_packages(with_extras=True):
            compileall.compile_dir(package, quiet=2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long forms are skipped unless they are asked for."""
    if "long" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="the long form: run with -m long"))


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """No test leaves its environment to those after it: who opens a cloud's store adopts the variables it is given."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A GRIDKEEP_HOME of the test's own (not made yet); whatever runs in it is killed at the end."""
    path = tmp_path / "home"
    yield path
    end_processes_of(path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder to run scripts from; no git checkout."""
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def grid(home: Path, project: Path, tmp_path: Path) -> Grid:
    """The `grid` command of this environment, in `home` and `project`; ~ is a folder of the test's own too."""
    user_home = tmp_path / "user"
    user_home.mkdir()
    return Grid(
        command=(str(BIN / "grid"),),
        home=home,
        cwd=project,
        env=environment(home, user_home, f"{BIN}:{os.environ['PATH']}"),
    )


# -------------------------------------------------------------------------------- an ordinary user


@pytest.fixture
def as_user(request: pytest.FixtureRequest) -> Iterator[Grid]:
    """`grid` as an ordinary user, in a home and a project (`.home`, `.cwd`) of that user's own. When the tests do not run
    as root, they are an ordinary user's already, and this is `grid`."""
    if os.getuid() != 0:
        yield request.getfixturevalue("grid")
        return
    command: Path = request.getfixturevalue("user_environment")
    nobody = pwd.getpwnam("nobody")
    # Not under tmp_path: pytest's folders are closed to other users.
    root = Path(tempfile.mkdtemp(prefix="gridkeep-user-"))
    root.chmod(0o755)
    try:
        for part in ("", "project", "user"):
            (root / part).mkdir(exist_ok=True)
            os.chown(root / part, nobody.pw_uid, nobody.pw_uid)
        yield Grid(
            command=(str(command),),
            home=root / "home",
            cwd=root / "project",
            env={
                **environment(root / "home", root / "user", f"{command.parent}:{SYSTEM_PATH}"),
                "USER": nobody.pw_name,
                "LOGNAME": nobody.pw_name,
            },
            uid=nobody.pw_uid,
        )
    finally:
        end_processes_of(root)
        shutil.rmtree(root)


@pytest.fixture(params=["as_this_user", "as_ordinary_user"])
def any_user(request: pytest.FixtureRequest) -> Grid:
    """`grid` twice: as whoever runs the tests, and as an ordinary user."""
    chosen: Grid = request.getfixturevalue("grid" if request.param == "as_this_user" else "as_user")
    return chosen


@pytest.fixture(scope="session")
def user_environment() -> Iterator[Path]:
    """A `grid` that any user can run: this environment, and the interpreter under it, may lie in folders of root's own."""
    root = Path(tempfile.mkdtemp(prefix="gridkeep-venv-"))
    root.chmod(0o755)
    try:
        python = _public_python()
        subprocess.run([python, "-m", "venv", "--without-pip", root / "venv"], check=True)
        (packages,) = root.glob("venv/lib/python*/site-packages")
        for package in _needed_packages():
            _copy(package, packages / package.name)
        # The ordinary user may not write here: else each of its processes would compile all that it imports.
        subprocess.run([root / "venv/bin/python", "-m", "compileall", "-q", packages], check=True)
        command = root / "venv/bin/grid"
        command.write_text(
            f"#!{root}/venv/bin/python\nimport sys\n\nfrom gridkeep.cli.main import main\n\nsys.exit(main())\n"
        )
        command.chmod(0o755)
        yield command
    finally:
        shutil.rmtree(root)


# ------------------------------------------------------------------------------------------ clouds


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real S3 server with a bucket `lab`: one for all tests of this process, each of which has a bucket or a prefix of
    its own."""
    with s3_server(tmp_path_factory.mktemp("s3")) as service:
        make_bucket(service, "lab")
        yield service


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory, s3: Service) -> Iterator[Service]:
    """What speaks for Google Cloud Storage, with a bucket `lab`."""
    with gcs_front(tmp_path_factory.mktemp("gcs"), s3) as service:
        yield service


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """What speaks for Azure Blob Storage, with a container `lab`."""
    with azurite(tmp_path_factory.mktemp("azure")) as service:
        yield service


def _public_python() -> str:
    """An interpreter of this one's version that an ordinary user may run, else of any version that Gridkeep supports."""
    check = "import sys; assert sys.version_info >= (3, 11); print(sys.version_info[:2])"
    works: dict[str, str] = {}
    for path in (os.path.realpath(sys.executable), shutil.which("python3", path=SYSTEM_PATH)):
        if path is None:
            continue
        try:
            done = subprocess.run(
                [path, "-c", check],
                user=65534,
                group=65534,
                extra_groups=[],
                capture_output=True,
                text=True,
                cwd="/",
            )
        except PermissionError:
            continue
        if done.returncode == 0:
            works.setdefault(done.stdout.strip(), path)
    found = works.get(str(sys.version_info[:2])) or next(iter(works.values()), None)
    assert found, (
        "no Python >= 3.11 that an ordinary user may run: scripts/install-system-packages installs one"
    )
    return found


def _needed_packages(*, with_extras: bool = False) -> list[Path]:
    """The files and folders in site-packages of what Gridkeep needs to run, and its own package. `with_extras`: also of what
    is installed for its extras."""
    found: dict[str, Path] = {"gridkeep": Path(gridkeep.__file__).parent}
    names, seen = ["gridkeep"], {"gridkeep"}
    extras = importlib.metadata.metadata("gridkeep").get_all("Provides-Extra") if with_extras else None
    while names:
        try:
            distribution = importlib.metadata.distribution(names.pop())
        except importlib.metadata.PackageNotFoundError:
            assert with_extras
            continue
        if distribution.metadata["Name"] != "gridkeep":
            tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
            found |= {top: Path(str(distribution.locate_file(top))) for top in tops}
        for requirement in map(Requirement, distribution.requires or []):
            marker = requirement.marker
            here = ["", *(extras or [])] if distribution.name == "gridkeep" else [""]
            needed = marker is None or any(marker.evaluate({"extra": extra}) for extra in here)
            if needed and requirement.name not in seen:
                seen.add(requirement.name)
                names.append(requirement.name)
    return [path for name, path in found.items() if name != "__pycache__"]


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
