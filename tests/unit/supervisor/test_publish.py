"""What the catalog hears of the ledger, also when somebody is killed between the two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.publish import Publisher
from tests.unit.made import make_run, quiet_home

DIES_AFTER_TELLING = """
import os, sys
from gridkeep.catalog.sqlite import open_catalog
from gridkeep.supervisor.entry import Entry, Phase
from gridkeep.supervisor.ledger import Ledger
from gridkeep.supervisor.publish import Publisher

class Deadly:
    def __init__(self, catalog):
        self.catalog = catalog
    def record_artifacts(self, *told):
        self.catalog.record_artifacts(*told)
        os.kill(os.getpid(), 9)

ledger = Ledger(sys.argv[2])
ledger.put(Entry(path=b"/tree/a", artifact_id="art_1", listed=b"a", phase=Phase.TOUCHED, due=0.0, dirty=True))
Publisher(ledger, Deadly(open_catalog(sys.argv[1])), sys.argv[3]).publish()
"""


def test_what_turned_out_to_be_no_file_is_forgotten_although_nobody_noted_that_it_was_told(tmp_path):
    with quiet_home(tmp_path / "home") as context:
        _, (experiment,) = make_run(context, "r", ["running"])
        ulid, path = experiment.experiment_id, str(tmp_path / "ledger.db")
        words = [sys.executable, "-c", DIES_AFTER_TELLING, context.home.catalog, path, ulid]
        assert subprocess.run(words).returncode == -signal.SIGKILL
        assert [one.path for one in context.catalog.artifacts(ulid)] == [b"a"]
        ledger = Ledger(path)
        entry = ledger.get(b"/tree/a")
        assert entry is not None and not os.path.exists(entry.path)
        ledger.drop(entry)
        Publisher(ledger, context.catalog, ulid).publish()
        ledger.close()
        assert context.catalog.artifacts(ulid) == []
