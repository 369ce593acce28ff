"""The short form of the rounds, with seeds that stay the same; and proof that their oracle sees what it is there for.

The long form: `pytest -m long tests/faults`, or
`python -m tests.faults.rounds --rounds 1000 --seed N --jobs 2`; its figures are in `docs/faults.md`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from gridkeep.stores.keys import experiment_prefix
from tests.faults import disks, rounds
from tests.faults.oracle import ANYTHING, Oracle, Told, read_logs
from tests.support import end_processes_of

SHORT = (1, 2, 3, 4, 5, 7, 9)  # with every kind of blow that there is in the first ten
SEEDS = [
    pytest.param(f"short/{number}", marks=() if number in SHORT else pytest.mark.long) for number in range(10)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_whoever_is_struck(seed: str, tmp_path: Path) -> None:
    result = rounds.play(seed, tmp_path / "round", disks.build_faulty(tmp_path))
    print(result.line())
    assert not result.findings, f"replay with: python -m tests.faults.rounds --replay {seed}"


def test_the_oracle_sees_what_is_wrong(tmp_path: Path) -> None:
    grid = rounds.new_grid(tmp_path)
    try:
        words = ["run", "--name", "r", "--exclude", "oplog/", "--strategy", "none", "writer.py", "oracle"]
        grid(*words, tmp_path / "outside", tmp_path / "oplog", "--operations", "12", "--pause", "0.005")
        (one,) = grid.finished("r")
        assert one["state"] == "completed"
        told = read_logs(tmp_path / "oplog")

        def kinds(told: Told = told) -> set[str]:
            downloads = tmp_path / f"downloads-{len(list(tmp_path.iterdir()))}"
            return {f.kind for f in Oracle(grid, "r-exp0", told, tmp_path / "outside", downloads).findings()}

        assert kinds() == set()
        path, may_be = next((path, may_be) for path, may_be in told.files.items() if may_be != {None})
        with_more = {**told.files, path + b" more": may_be}
        assert kinds(Told(with_more, told.trees, told.ends)) == {"false completed"}
        assert kinds(Told({path: {hashlib.sha256(b"other").hexdigest()}}, told.trees)) == {"wrong"}
        assert kinds(Told({path: {None, ANYTHING}}, told.trees)) == set()
        assert kinds(Told({path: {None}}, told.trees)) == {"wrong"}

        new = tmp_path / "outside/never seen"
        new.write_text("written when nobody looked")
        assert kinds() == {"false completed"}
        new.unlink()

        folder = grid.home / "store" / experiment_prefix(one["experiment_id"])
        stray = folder / "artifacts/stray"
        stray.write_text("not listed")
        assert kinds() == {"disagreement"}
        stray.unlink()
        kept = next(each for each in sorted((folder / "artifacts").rglob("*")) if each.is_file())
        content = kept.read_bytes()
        kept.write_bytes(content + b"!")
        assert kinds() >= {"disagreement", "lost"}
        kept.unlink()
        assert kinds() >= {"disagreement", "lost"}
    finally:
        end_processes_of(tmp_path)


def test_a_log_that_was_cut_off_leaves_both_states_open(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text(
        '{"n": 1, "of": ["YQ=="]}\n{"n": 1, "now": {"YQ==": "x"}}\n{"n": 2, "of": ["YQ=="]}\n'
    )
    assert read_logs(tmp_path).files == {b"a": {"x", ANYTHING}}
    with (tmp_path / "0.jsonl").open("a") as log:
        log.write('{"n": 2, "now": {"YQ==": null}}\n')
    assert read_logs(tmp_path).files == {b"a": {None}}
