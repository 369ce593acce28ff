import errno
import json
import os
import platform
from dataclasses import fields

import pytest

from gridkeep import capture
from gridkeep.model import Cluster, new_ulid
from gridkeep.settings import Settings
from tests.unit.made import make_run


def findings(answer):
    return {one["name"]: one for one in json.loads(answer.out)}


def test_a_sound_machine(context, call, monkeypatch, tmp_path):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = call("doctor", "--json")
    assert answer.code == 0
    found = findings(answer)
    assert platform.python_version() in found["python"]["text"]
    assert found["capture"]["mode"] in ("c", "python", "watch", "off")
    assert found["home"]["path"] == context.home.path
    assert found["home"]["mode"] == "0700"
    assert found["home"]["free_bytes"] > 0
    assert found["home"]["filesystem"] in {line.split()[-1] for line in open("/proc/filesystems")}
    assert found["catalog"]["version"] >= 1
    assert found["store local"]["uri"] == f"file://{context.home.store}/"
    assert found["engine"]["alive"] is True  # the test holds its lock
    assert found["ffmpeg"]["path"] == str(tmp_path / "ffmpeg")
    assert found["browser"]["path"] is None
    lines = [line for line in call("doctor").out.splitlines()[1:] if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == [name.split()[0] for name in found]


@pytest.mark.parametrize(("wanted", "level"), [("watch", "warning"), ("python", "ok")])
def test_a_setting_decides_the_mode(context, call, monkeypatch, wanted, level):
    by_itself = findings(call("doctor", "--json"))["capture"]
    monkeypatch.setenv("GRIDKEEP_CAPTURE", wanted)
    found = findings(call("doctor", "--json"))["capture"]
    if wanted == "watch" or by_itself["mode"] != "watch":
        assert (found["mode"], found["level"]) == (wanted, level)
        assert "GRIDKEEP_CAPTURE asks for it" in found["why"]
    assert found["modes"] == by_itself["modes"]


def test_what_each_mode_would_take(context, call, monkeypatch):
    monkeypatch.setattr("gridkeep.cli.doctor.has_native_shim", lambda: False)
    monkeypatch.setattr("gridkeep.cli.doctor.is_installed", lambda: False)
    monkeypatch.setenv("GRIDKEEP_CAPTURE", "c")
    answer = call("doctor", "--json")
    found = findings(answer)["capture"]
    assert set(found["modes"]) == {"c", "python", "watch", "off"}
    assert "pip install 'gridkeep[watch]'" in found["modes"]["watch"]
    if "refuses" not in found["modes"]["c"]:
        assert (answer.code, found["level"]) == (1, "failed")
        assert "C compiler" in found["modes"]["c"]
    shown = call("doctor").out
    for mode in ("python", "watch", "off"):
        assert f" {mode}: " in shown


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EBUSY, "(EBUSY): another seccomp listener is above it"),
        (errno.EPERM, "(EPERM): a security policy forbids it"),
        (
            errno.ENOSYS,
            "(ENOSYS): the kernel, or the sandbox that plays it (gVisor is one), has no seccomp filters",
        ),
        (errno.ENOMEM, "(ENOMEM): Cannot allocate memory"),
        (-1, "system calls"),
    ],
)
def test_a_refusal_in_words(number, words):
    assert words in capture.in_words(number)


def test_a_store_that_is_away_is_a_failure_in_words(context, call):
    context.catalog.put_cluster(Cluster(name="away", engine="local", store="file:///nowhere/at/all"))
    answer = call("doctor", "--json")
    assert answer.code == 1
    assert findings(answer)["store away"]["level"] == "failed"
    assert "/nowhere/at/all" in findings(answer)["store away"]["text"]
    assert findings(answer)["store local"]["level"] == "ok"


def test_what_the_catalog_does_not_know_is_a_warning(context, call):
    assert "leftovers" not in findings(call("doctor", "--json"))
    os.mkdir(context.home.journal(new_ulid()))  # a submission that was killed as it began: there is nothing
    assert "leftovers" not in findings(call("doctor", "--json"))
    for folder in (context.home.journal(new_ulid()), context.home.work(new_ulid())):
        os.mkdir(folder)
        with open(os.path.join(folder, "file"), "w"):
            pass
    found = findings(call("doctor", "--json"))["leftovers"]
    assert (found["level"], found["experiments"]) == ("warning", 2)
    assert "2 experiments in the home are not in the catalog" in found["text"]
    assert f"`grid catalog rebuild file://{context.home.store}`" in found["text"]


def test_an_open_home_is_a_warning(context, call):
    os.chmod(context.home.path, 0o755)
    assert "chmod 700" in findings(call("doctor", "--json"))["home"]["text"]


def test_a_home_that_cannot_be_used_is_a_finding(call, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRIDKEEP_HOME", str(tmp_path / "file"))
    answer = call("doctor", "--json")
    assert answer.code == 1
    assert findings(answer)["home"]["level"] == "failed"
    assert "capture" in findings(answer)


def test_work_that_nobody_does_is_a_warning(home, capfdbinary, monkeypatch):
    from gridkeep.cli.main import main
    from gridkeep.runs.context import open_context

    monkeypatch.setenv("GRIDKEEP_HOME", str(home))
    with open_context(start_engine=False) as context:
        make_run(context, "my-run", ["queued", "queued"])
        assert main(["doctor"]) == 0
    assert b"not running, with 2 experiments unfinished" in capfdbinary.readouterr().out


@pytest.mark.parametrize("way", ["default", "file", "variable"])
def test_settings_with_value_and_source(context, call, monkeypatch, way):
    value, source = "10s", "default"
    if way == "file":
        value, source = "90s", context.home.config
        with open(context.home.config, "w") as config:
            config.write('linger = "1m30s"\n')
    elif way == "variable":
        value, source = "3s", "GRIDKEEP_LINGER"
        monkeypatch.setenv("GRIDKEEP_LINGER", "3")
    header, *rows = call("doctor", "--settings").out.splitlines()
    assert header.split() == ["Setting", "Value", "Source"]
    assert [row.split()[0] for row in rows] == [item.name for item in fields(Settings)]
    assert ["linger", value, source] in [row.split() for row in rows]
    assert json.loads(call("doctor", "--settings", "--json").out)["linger"]["source"] == source
