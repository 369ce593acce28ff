"""The tree of an experiment's files: whole where it is small, in bounded parts where it is not, every file in one place."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gridkeep.model import Artifact, ArtifactState, Experiment, new_ulid
from gridkeep.runs.context import Context
from gridkeep.web.tree import SHOWN, WHOLE, Listing, Node, listing
from tests.unit.made import make_run, quiet_home


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    with quiet_home(tmp_path_factory.mktemp("home")) as context:
        yield context


def written(context: Context, name: str, paths: Sequence[bytes | None], state: str = "pending") -> Experiment:
    """An experiment with these files."""
    _, [experiment] = make_run(context, name, ["running"])
    artifacts = [
        Artifact(
            artifact_id=f"art_{new_ulid()}",
            experiment_id=experiment.experiment_id,
            path=path,
            state=ArtifactState(state),
            size=10,
        )
        for path in paths
    ]
    context.catalog.record_artifacts(experiment.experiment_id, artifacts)
    return experiment


def parts(context: Context, experiment: Experiment, folder: bytes = b"") -> Iterator[Listing]:
    """All parts of a folder's listing."""
    after = None
    while True:
        part = listing(context.catalog, experiment.experiment_id, folder, after)
        yield part
        if part.following is None:
            return
        assert after is None or part.following > after
        after = part.following


def files(context: Context, experiment: Experiment, folder: bytes = b"") -> list[bytes | None]:
    """What somebody finds who opens everything."""

    def below(node: Node) -> Iterator[bytes | None]:
        if node.artifact is not None:
            yield node.artifact.path
        elif node.inside is None:
            yield from files(context, experiment, node.path)
        else:
            for one in node.inside:
                yield from below(one)

    return [
        path for part in parts(context, experiment, folder) for node in part.nodes for path in below(node)
    ]


def test_a_small_one_comes_whole_with_folders_first(context: Context) -> None:
    experiment = written(context, "small", [b"b.txt", b"a/x", b"a/y/z", b"/tmp/out", b"c/d/e/f", b"a-b"])
    tree = listing(context.catalog, experiment.experiment_id)
    assert tree.following is None
    assert tree.small
    assert [node.name for node in tree.nodes] == ["/tmp/", "a/", "c/d/e/", "a-b", "b.txt"]
    [_, a, *_] = tree.nodes
    assert (a.files, a.bytes, a.under_way, a.more) == (2, 20, 2, False)
    assert a.inside is not None
    assert [(node.name, node.path) for node in a.inside] == [("y/", b"a/y/"), ("x", b"a/x")]


def test_names_are_made_visible(context: Context) -> None:
    names = [b"\x1b[31m", "\u202egnp".encode(), b"caf\xff", None]
    experiment = written(context, "hostile", names)
    shown = {node.name for node in listing(context.catalog, experiment.experiment_id).nodes}
    assert shown == {"\\x1b[31m", "\\u202egnp", "caf\\xff", "a file of unknown name"}


@pytest.mark.parametrize("state", ArtifactState)
def test_what_was_removed_or_ignored_is_not_shown(context: Context, state: ArtifactState) -> None:
    experiment = written(context, f"is-{state}", [b"a"], state)
    assert bool(listing(context.catalog, experiment.experiment_id).nodes) == (state in SHOWN)


def test_a_folder_that_is_not_there_is_empty(context: Context) -> None:
    experiment = written(context, "other", [b"a", b"ab/c"])
    for folder in (b"b/", b"a/", b"/"):
        assert listing(context.catalog, experiment.experiment_id, folder) == Listing(small=True)


@pytest.mark.parametrize("seed", range(4))
def test_every_file_is_in_one_place(context: Context, seed: int) -> None:
    """Names that sort around the slash, files beside folders of nearly their names, few and many in a folder."""
    chosen = random.Random(seed)
    names = [b"a", b"a-", b"a0", b"a.b", b"b", b"\xff", b"~", b" ", b"%2f"]
    paths = set()
    for i in range(1500):
        folder = b"/".join(chosen.choice(names) for _ in range(chosen.randrange(4)))
        start = b"/" if chosen.random() < 0.1 else b""
        paths.add(start + (folder + b"/" if folder else b"") + b"file-%d" % i)
    experiment = written(context, f"random-{seed}", sorted(paths))
    found = files(context, experiment)
    assert len(found) == len(paths)
    assert set(found) == paths


def test_one_that_is_deep_is_shown_to_a_depth(context: Context) -> None:
    """Names of two bytes as deep as a path can be, a file in each folder: no recursion goes as deep."""
    deep = [b"d/" * depth + b"f" for depth in range(250)]
    experiment = written(context, "deep", deep)

    def depth(nodes: Sequence[Node]) -> int:
        return 1 + max((depth(node.inside) for node in nodes if node.inside), default=0)

    assert 2 < depth(listing(context.catalog, experiment.experiment_id).nodes) < 20
    assert sorted(map(bytes, filter(None, files(context, experiment)))) == sorted(deep)


class Counted:
    """The catalog, and how many artifacts it gave."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog
        self.given = self.asked = 0

    def artifacts(self, *args: Any, **kwargs: Any) -> list[Artifact]:
        found: list[Artifact] = self._catalog.artifacts(*args, **kwargs)
        self.given += len(found)
        self.asked += 1
        return found


def test_the_work_does_not_grow_with_the_files(context: Context) -> None:
    shards = [b"shard-%03d/part/%04d" % (i // 400, i % 400) for i in range(30_000)]
    experiment = written(context, "many", [*shards, *(b"top-%d" % i for i in range(WHOLE))])
    counted: Any = Counted(context.catalog)
    first = listing(counted, experiment.experiment_id)
    assert counted.given < 30_000
    assert counted.asked < 500
    folders = [node for node in first.nodes if node.artifact is None]
    assert len(folders) == 75
    assert all(node.inside is None for node in folders)
    assert {node.files for node in folders if not node.more} == {400}
    assert first.following is not None  # the files beside them
