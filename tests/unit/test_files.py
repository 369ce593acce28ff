"""Files written whole or not at all, and locks that end with their holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from gridkeep.files import is_locked, read_json, take_lock, write_file, write_json


def test_json_with_any_bytes_comes_back(tmp_path):
    value = {"name": os.fsdecode(b"\xff\n"), "emoji": "✨"}
    write_json(str(tmp_path / "x"), value)
    assert read_json(str(tmp_path / "x")) == value
    assert read_json(str(tmp_path / "none")) is None


def test_only_its_owner_may_read_it_and_nothing_is_left_beside(tmp_path):
    write_file(str(tmp_path / "x"), b"1")
    write_file(str(tmp_path / "x"), b"22")
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"22"
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_one_holder_at_a_time_and_lookers_do_not_disturb(tmp_path):
    path = str(tmp_path / "lock")
    assert not is_locked(path)
    held = take_lock(path)
    assert held is not None and is_locked(path)
    assert take_lock(path, patience=0) is None
    os.close(held)
    assert not is_locked(path)


def test_a_lock_ends_with_its_holder(tmp_path):
    path = str(tmp_path / "lock")
    code = "import sys, time; from gridkeep.files import take_lock; take_lock(sys.argv[1]); print('held', flush=True)"
    code += "; time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    assert is_locked(path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert not is_locked(path)
