"""From records and files to what the ledger says, on real files; records are written as the shim would."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from gridkeep.capture.journal import ABSENT, EXCHANGE, LATE, Op, Record, Stamp
from gridkeep.settings import Settings
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.examiner import Examiner
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from gridkeep.supervisor.rescan import Rescan
from gridkeep.supervisor.settle import Rest, open_for_reading, rest
from gridkeep.supervisor.tracker import Tracker
from gridkeep.supervisor.transfers import ToSend
from gridkeep.supervisor.trees import Trees


@dataclass
class Bench:
    """A ledger with what works on it, and a folder for files."""

    tree: Path
    ledger: Ledger
    tracker: Tracker
    examiner: Examiner
    now: float = 1000.0

    def path(self, name: str) -> bytes:
        return os.fsencode(os.path.normpath(self.tree / name))

    def stamp(self, name: str) -> Stamp:
        try:
            return Stamp.of(os.lstat(self.path(name)))
        except FileNotFoundError:
            return ABSENT

    def record(self, op: Op, *names: str, flags: int = 0, marks: int = 0) -> None:
        """As the shim: before the call."""
        paths = tuple((self.path(name), self.stamp(name)) for name in names)
        self.tracker.apply(Record(op, 1, flags, 0, paths, marks), self.now)

    def write(self, name: str, text: str = "x") -> None:
        self.record(Op.OPEN, name)
        (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / name).write_text(text)

    def rename(self, old: str, new: str) -> None:
        self.record(Op.RENAME, old, new)
        (self.tree / old).rename(self.tree / new)

    def remove(self, name: str) -> None:
        self.record(Op.UNLINK, name)
        (self.tree / name).unlink()

    def look(self, *, store: bool = True) -> list[ToSend]:
        """Time goes by; everything due is looked at, and what is to be sent is stored."""
        found = []
        for _ in range(2):  # looking at a moved folder finds files
            self.now += 100
            for entry in self.ledger.due(self.now, 10_000):
                if send := self.examiner.examine(entry, self.now):
                    if not send.asked and self.is_open(entry.path):  # as the sender finds
                        entry.due = self.now
                        self.ledger.put(entry)
                        continue
                    found.append(send)
                    if store:
                        self.note_stored(entry)
        return found

    @staticmethod
    def is_open(path: bytes) -> bool:
        fd = open_for_reading(path)
        try:
            return rest(fd) is not Rest.CLOSED
        finally:
            os.close(fd)

    def note_stored(self, entry: Entry) -> None:
        st = os.lstat(entry.path)
        entry.phase, entry.due, entry.sha256 = Phase.STORED, None, "ab" * 32
        entry.size, entry.ino, entry.mtime_ns, entry.ctime_ns = (
            st.st_size,
            st.st_ino,
            st.st_mtime_ns,
            st.st_ctime_ns,
        )
        entry.published = True
        self.ledger.put(entry)

    def phases(self) -> dict[str, str]:
        return {entry.listed.decode(): str(entry.phase) for entry in self.ledger.listed() if entry.listed}


@pytest.fixture
def bench(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    ledger = Ledger(str(tmp_path / "ledger.db"))
    settings = Settings()
    naming = Naming(os.fsencode(tree), {}, b"/nowhere/home", b"/nowhere", ["*.skip"])
    tracker = Tracker(ledger, naming, settings)
    yield Bench(tree, ledger, tracker, Examiner(ledger, tracker, settings))
    ledger.close()


def test_a_written_file_is_sent_once(bench):
    bench.write("a")
    assert [send.listed for send in bench.look()] == [b"a"]
    assert bench.look() == []
    assert bench.phases() == {"a": "stored"}


def test_an_input_that_was_only_opened_is_no_artifact(bench):
    (bench.tree / "input").write_text("given")
    bench.record(Op.OPEN, "input")
    assert bench.look() == [] and bench.phases() == {}


def test_a_changed_input_is_one(bench):
    (bench.tree / "input").write_text("given")
    bench.write("input", "changed")
    bench.look()
    assert bench.phases() == {"input": "stored"}


def test_an_open_that_failed_leaves_nothing(bench):
    bench.record(Op.OPEN, "never")
    bench.look()
    assert bench.phases() == {}
    bench.examiner.final = True
    bench.record(Op.OPEN, "never either")
    bench.look()
    assert bench.ledger.get(bench.path("never either")) is None


def test_a_call_that_takes_place_long_after_its_record(bench):
    """A record stands before its call: on a busy machine there is nothing yet when the file is looked at first."""
    bench.record(Op.OPEN, "made")
    bench.record(Op.OPEN, "removed")
    for _ in range(3):
        bench.now += 1
        assert [bench.examiner.examine(entry, bench.now) for entry in bench.ledger.due(bench.now, 10)] == [
            None
        ] * 2
    (bench.tree / "made").write_text("x")
    (bench.tree / "removed").write_text("x")
    bench.remove("removed")
    assert [send.listed for send in bench.look()] == [b"made"]
    assert bench.phases() == {"made": "stored", "removed": "removed"}


def test_a_call_that_takes_place_when_nobody_looks_any_more(bench):
    """It is found at the end at the latest, wherever it lies; a record told of it, so that it is no find of the sweep."""
    bench.record(Op.OPEN, "late")
    for name in ("again", "unseen"):
        bench.write(name)
        bench.remove(name)
    bench.record(Op.OPEN, "again")
    bench.look()
    assert bench.look() == []
    for name in ("late", "again", "unseen"):
        (bench.tree / name).write_text("x")
    Rescan(bench.ledger, bench.tracker, Trees(b"/nowhere/else", b"/nowhere/home")).look(
        bench.now, unexpected=True
    )
    assert sorted(send.listed for send in bench.look()) == [b"again", b"late", b"unseen"]
    assert bench.ledger.totals()["swept"] == 1


def test_a_file_made_and_removed_is_removed(bench):
    bench.write("a")
    bench.remove("a")
    bench.look()
    assert bench.phases() == {"a": "removed"}


def test_a_removed_input_is_no_artifact(bench):
    (bench.tree / "input").write_text("given")
    bench.remove("input")
    bench.look()
    assert bench.phases() == {}


def test_an_input_moved_away_and_back_is_no_artifact(bench):
    (bench.tree / "input").write_text("given")
    bench.rename("input", "aside")
    bench.rename("aside", "input")
    bench.look()
    assert bench.phases() == {}


def test_a_stored_file_that_is_removed_keeps_its_bytes(bench):
    bench.write("a")
    bench.look()
    bench.remove("a")
    bench.look()
    entry = bench.ledger.get(bench.path("a"))
    assert entry.phase is Phase.REMOVED and entry.sha256


def test_a_checkpoint_written_aside_and_renamed_has_one_name(bench):
    bench.write("ckpt.part")
    bench.rename("ckpt.part", "ckpt")
    bench.look()
    assert bench.phases() == {"ckpt": "stored"}


def test_a_stored_file_that_is_renamed_is_removed_under_its_old_name(bench):
    bench.write("old")
    bench.look()
    bench.rename("old", "new")
    bench.look()
    assert bench.phases() == {"new": "stored", "old": "removed"}
    assert bench.ledger.get(bench.path("old")).reason == "renamed to new"


def test_a_rename_that_failed_changes_nothing(bench):
    bench.write("a")
    bench.record(Op.RENAME, "a", "b")  # EXDEV, say
    bench.look()
    assert bench.phases() == {"a": "stored"}


def test_mv_across_file_systems_copies_and_removes(bench):
    bench.write("a")
    bench.record(Op.RENAME, "a", "b")
    bench.write("b")
    bench.remove("a")
    bench.look()
    assert bench.phases() == {"a": "removed", "b": "stored"}


def test_a_chain_of_renames_seen_late(bench):
    bench.write("a")
    bench.rename("a", "b")
    bench.rename("b", "c")
    bench.look()
    assert bench.phases() == {"c": "stored"}


def test_an_exchange(bench):
    (bench.tree / "one").write_text("1")
    bench.write("two", "2")
    bench.record(Op.RENAME, "one", "two", marks=EXCHANGE)
    (bench.tree / "one").rename(bench.tree / "x")
    (bench.tree / "two").rename(bench.tree / "one")
    (bench.tree / "x").rename(bench.tree / "two")
    bench.look()
    assert bench.phases() == {"one": "stored", "two": "stored"}


def test_a_renamed_folder_takes_all_below_along(bench):
    bench.write("dir/known")
    (bench.tree / "dir/input").write_text("given")
    bench.rename("dir", "moved")
    bench.look()
    assert bench.phases() == {"moved/known": "stored", "moved/input": "stored"}


@pytest.mark.parametrize("looked", [True, False])
def test_what_had_left_a_folder_does_not_go_along_with_it(bench, looked):
    for name in ("gone", "moved", "stays"):
        bench.write(f"a/{name}")
    if looked:
        bench.look()
    bench.remove("a/gone")
    bench.rename("a/moved", "elsewhere")
    if looked:
        bench.look()
    bench.rename("a", "b")
    bench.look()
    expected = {"a/gone": "removed", "elsewhere": "stored", "b/stays": "stored"}
    old_names = {"a/moved": "removed", "a/stays": "removed"} if looked else {}
    assert bench.phases() == expected | old_names


def test_a_folder_renamed_twice_before_anyone_looked(bench):
    bench.write("dir/deep/known")
    bench.record(Op.RENAME, "dir", "second")
    (bench.tree / "dir").rename(bench.tree / "second")
    bench.record(Op.RENAME, "second", "third")
    (bench.tree / "second").rename(bench.tree / "third")
    bench.look()
    assert bench.phases() == {"third/deep/known": "stored"}


def test_links(bench):
    bench.write("a")
    bench.record(Op.LINK, "a", "hard")
    os.link(bench.path("a"), bench.path("hard"))
    bench.record(Op.SYMLINK, "soft")
    os.symlink("a", bench.path("soft"))
    bench.look()
    assert bench.phases() == {"a": "stored", "hard": "stored", "soft": "ignored"}
    assert bench.ledger.get(bench.path("soft")).reason == "symbolic link to a"


def test_an_excluded_file_is_ignored_by_its_rule(bench):
    bench.write("x.skip")
    bench.remove("x.skip")
    bench.look()
    assert bench.phases() == {"x.skip": "ignored"}
    assert bench.ledger.get(bench.path("x.skip")).reason == "exclude *.skip"


def test_a_writer_makes_it_grow_and_its_end_makes_it_stored(bench):
    bench.record(Op.OPEN, "log")
    with (bench.tree / "log").open("w") as log:
        log.write("line\n")
        log.flush()
        sent = bench.look(store=False)
        assert bench.phases() == {"log": "growing"}
        assert [send.prefix for send in sent] == [True]
    entry = bench.ledger.get(bench.path("log"))
    entry.due = bench.now
    bench.ledger.put(entry)
    bench.look()
    assert bench.phases() == {"log": "stored"}


def test_a_file_that_is_never_quiet_is_still_looked_at(bench):
    bench.write("status")
    bench.look()
    for _ in range(200):
        bench.now += 0.1
        bench.write("status", str(bench.now))
    assert bench.ledger.get(bench.path("status")).due <= bench.now


def test_each_rewrite_doubles_the_quiet_time_up_to_a_bound(bench):
    waits = []
    for _ in range(12):
        bench.write("w")
        bench.ledger.get(bench.path("w"))
        entry = bench.ledger.get(bench.path("w"))
        entry.unsaved_since = bench.now  # as if a copy had just been made
        bench.ledger.put(entry)
        waits.append(entry.due - bench.now)
        bench.now += 1
    assert waits[1] == pytest.approx(0.5) and waits[2] == pytest.approx(1.0)
    assert max(waits) <= Settings().quiet_max


def test_a_late_record_counts_as_written_whatever_the_stamps_say(bench):
    (bench.tree / "input").write_text("given")
    bench.record(Op.OPEN, "input")
    bench.record(Op.OPEN, "input", marks=LATE)
    bench.look()
    assert bench.phases() == {"input": "stored"}


def test_a_loss_has_no_path_and_says_what_is_known(bench):
    bench.tracker.apply(Record(Op.LOST, 1, 0, 0, ((b"open of prog: unknown path", ABSENT),)), bench.now)
    (entry,) = list(bench.ledger.listed())
    assert (entry.listed, entry.phase) == (None, Phase.MISSING) and "prog" in entry.reason


def test_a_folder_whose_rename_failed_onto_another_changes_nothing(bench):
    (bench.tree / "there").mkdir()
    (bench.tree / "there/input").write_text("given")
    bench.write("dir/a")
    bench.record(Op.RENAME, "dir", "there")  # ENOTEMPTY
    bench.look()
    assert bench.phases() == {"dir/a": "stored"}


def test_beyond_so_many_the_removed_are_counted_by_folder(bench, monkeypatch):
    monkeypatch.setattr("gridkeep.supervisor.tracker._MANY", 3)
    for number in range(8):
        bench.write(f"tmp/{number}")
        bench.remove(f"tmp/{number}")
    bench.look()
    assert list(bench.phases().values()) == ["removed"] * 3
    ((folder, phase, _, reason, count),) = bench.ledger.folders()
    assert (folder, phase, reason, count) == (b"tmp/", Phase.REMOVED, "removed by the run", 5)
    bench.write("tmp/7")
    bench.look()
    assert bench.ledger.folders()[0][4] == 4
    assert bench.phases()["tmp/7"] == "stored"


def test_what_came_with_a_renamed_folder_is_no_find_of_the_last_sweep(bench):
    for name in ("old/inner", "unseen"):
        (bench.tree / name).parent.mkdir(exist_ok=True)
        (bench.tree / name).write_text("x")
    bench.rename("old", "new")
    trees = Trees(os.fsencode(bench.tree), b"/nowhere/home")
    Rescan(bench.ledger, bench.tracker, trees).look(bench.now, unexpected=True)
    bench.look()
    assert bench.phases() == {"new/inner": "stored", "unseen": "stored"}
    assert bench.ledger.totals()["swept"] == 1


def test_a_write_through_a_hard_link_is_seen_at_the_file_that_it_links(bench, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("given")
    bench.record(Op.LINK, "../outside", "inside")
    os.link(outside, bench.path("inside"))
    bench.look()
    assert bench.phases() == {"inside": "stored"}
    bench.write("inside", "changed")
    Rescan(bench.ledger, bench.tracker, Trees(os.fsencode(bench.tree), b"/nowhere/home")).look(
        bench.now, unexpected=True
    )
    bench.look()
    assert bench.phases() == {
        "inside": "stored",
        f"_abs{outside}": "stored",
    }  # the shim gives it its canonical name
