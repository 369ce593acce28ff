"""The Keeper, with a real ledger, catalog and store, at instants that a whole run meets only by chance."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from gridkeep.capture.journal import ABSENT, Op, Record
from gridkeep.capture.session import Session
from gridkeep.settings import Settings
from gridkeep.stores.local import LocalStore
from gridkeep.supervisor.entry import Phase
from gridkeep.supervisor.keeper import Keeper
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.naming import Naming
from tests.support import wait_for
from tests.unit.made import make_run, quiet_home


def test_a_file_written_by_another_name_after_it_was_read_and_before_the_end(tmp_path: Path) -> None:
    """Only the name that was opened is in the journal, and the sweep passes over what is being sent."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "one").write_bytes(b"first")
    os.link(tree / "one", tree / "other")
    with quiet_home(tmp_path / "home") as context:
        _, (experiment,) = make_run(context, "r", ["running"])
        ledger = Ledger(str(tmp_path / "ledger.db"))
        naming = Naming(os.fsencode(tree), {}, b"/nowhere", b"/nobody", [])
        store = LocalStore(str(tmp_path / "store"), create=True)
        keeper = Keeper(
            experiment.experiment_id,
            Settings(),
            context.catalog,
            store,
            ledger,
            naming,
            str(tmp_path / "output.log"),
        )
        path, session = os.fsencode(tree / "other"), Session(str(tmp_path / "capture-1"))
        keeper.tracker.apply(
            Record(Op.OPEN, 1, os.O_WRONLY, time.time_ns(), ((path, ABSENT),)), time.monotonic() - 1
        )
        keeper.turn(session)
        wait_for(lambda: list(store.list("")))
        wait_for(lambda: keeper._transfers._done.qsize())  # read and sent; not yet noted
        with open(tree / "one", "ab") as file:
            file.write(b", second")
        keeper.finish_up()
        while not keeper.done:
            keeper.turn(session)
        entry = ledger.get(path)
        assert entry is not None
        assert (entry.phase, entry.sha256) == (Phase.STORED, hashlib.sha256(b"first, second").hexdigest())
        keeper.close()
        ledger.close()
