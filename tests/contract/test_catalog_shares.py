"""What every catalog must do with share links. See `test_catalog`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridkeep.catalog.base import Catalog
from gridkeep.catalog.shares import Share
from gridkeep.model import Experiment, Run, RunSpec

SPEC = RunSpec(argv=["x"], display="x", workdir="", root="/")
IDS = ("shr_1", "shr_2", "shr_3", "shr_4")


def two_experiments(catalog: Catalog, name: str = "r", owner: str = "me") -> Run:
    run = Run(
        run_id=f"wr_{name}",
        name=name,
        kind="script",
        cluster="local",
        created_by=owner,
        created_at=1.0,
        spec=SPEC,
    )
    each = [Experiment(experiment_id=f"{name}{i}", run_id=run.run_id, run=name, index=i) for i in (0, 1)]
    catalog.create_run(run, each)
    return run


def make(share_id: str, run: str = "r", **more: object) -> Share:
    shape = {"run_id": f"wr_{run}", "created_by": "me", "created_at": 5.0, "expires_at": 10.0, **more}
    return Share(share_id=share_id, digest=f"hash of {share_id}", **shape)  # type: ignore[arg-type]


def of_each_scope() -> list[Share]:
    return [
        make(IDS[0]),
        make(IDS[1], experiment_id="r0"),
        make(IDS[2], experiment_id="r0", path=b"out\xff", folder=True),
        make(IDS[3], experiment_id="r1", path=b"out/x"),
    ]


def test_scope_and_state_follow_from_the_fields() -> None:
    assert [share.scope for share in of_each_scope()] == ["run", "experiment", "folder", "file"]
    share = make("shr_1")
    assert [share.state(now) for now in (9.9, 10.0)] == ["live", "ended"]
    assert {replace(share, revoked_at=6.0).state(now) for now in (9.9, 10.0)} == {"revoked"}


def test_a_share_is_found_by_id_and_by_its_tokens_hash(catalog: Catalog) -> None:
    two_experiments(catalog)
    for share in of_each_scope():
        assert catalog.add_share(share)
        assert catalog.share(share.share_id) == catalog.share_with(share.digest) == share
    assert catalog.share("shr_9") is None and catalog.share_with("shr_1") is None


def test_opens_are_counted_with_the_time_of_the_last(catalog: Catalog) -> None:
    two_experiments(catalog)
    catalog.add_share(make("shr_1"))
    for at in (6.0, 7.0):
        catalog.note_open("shr_1", at)
    catalog.note_open("shr_9", 8.0)
    assert catalog.share("shr_1") == make("shr_1", opens=2, last_opened_at=7.0)


def test_a_share_is_revoked_once(catalog: Catalog) -> None:
    two_experiments(catalog)
    catalog.add_share(make("shr_1"))
    assert catalog.revoke_share("shr_1", 6.0)
    assert not catalog.revoke_share("shr_1", 7.0) and not catalog.revoke_share("shr_9", 7.0)
    assert catalog.share("shr_1") == make("shr_1", revoked_at=6.0)


def test_the_newest_come_first_and_a_user_sees_what_is_theirs(catalog: Catalog) -> None:
    two_experiments(catalog)
    two_experiments(catalog, "s", "ann")
    for number, (run, who) in enumerate(
        [("r", "me"), ("s", "ann"), ("s", "boss"), ("r", "boss"), ("r", "me")]
    ):
        catalog.add_share(make(f"shr_{number}", run, created_by=who))
    seen = lambda **how: [int(share.share_id[-1]) for share in catalog.shares(**how)]  # noqa: E731
    assert seen() == [4, 3, 2, 1, 0]
    assert seen(user="ann") == [2, 1]
    assert seen(user="me") == [4, 3, 0]
    assert seen(user="boss") == [3, 2]
    assert seen(run_id="wr_r", limit=2) == [4, 3]
    assert seen(user="me", before="shr_4") == [3, 0]


@pytest.mark.parametrize(("gone", "left"), [("r0", {0, 3}), ("r1", {0, 1, 2})])
def test_a_link_to_something_deleted_is_dead_at_once(catalog: Catalog, gone: str, left: set[int]) -> None:
    two_experiments(catalog)
    two_experiments(catalog, "s")
    catalog.add_share(make("shr_5", "s"))
    for share in of_each_scope():
        catalog.add_share(share)

    def alive() -> set[int]:
        listed = {share.share_id for share in catalog.shares(run_id="wr_r")}
        assert listed == {id_ for id_ in IDS if catalog.share(id_)}
        assert listed == {id_ for id_ in IDS if catalog.share_with(f"hash of {id_}")}
        return {IDS.index(id_) for id_ in listed}

    catalog.begin_delete([gone])
    assert alive() == left
    assert not catalog.add_share(make("shr_6", experiment_id=gone))
    catalog.finish_delete(gone)
    assert alive() == left
    catalog.begin_delete(["r0", "r1"])
    assert alive() == set()
    assert not catalog.add_share(make("shr_6"))
    for experiment in ("r0", "r1"):
        catalog.finish_delete(experiment)
    assert alive() == set()
    two_experiments(catalog)  # nothing was left that would come back with the same ids
    assert alive() == set()
    assert [share.share_id for share in catalog.shares()] == ["shr_5"]
