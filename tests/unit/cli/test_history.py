import json

from tests.unit.made import keep, make_run


def test_finished_runs_newest_first(context, call):
    _, [one, _] = make_run(context, "first", ["completed", "failed"])
    keep(context, one, b"a", b"x" * 2000)
    make_run(context, "second", ["stopped"])
    make_run(context, "active", ["running"])
    make_run(context, "theirs", ["completed"], created_by="somebody-else")
    header, *rows = call("history").out.splitlines()
    words = [
        "Run",
        "Status",
        "Created By",
        "Created At",
        "Experiments",
        "Completed",
        "Failed",
        "Stopped",
        "Size",
    ]
    assert [cell.strip() for cell in header.split("  ") if cell.strip()] == words
    assert [row.split()[:2] for row in rows] == [["second", "stopped"], ["first", "failed"]]
    assert rows[1].split()[3:] == ["2023-11-14T22:13:20Z", "2", "1", "1", "0", "2.0", "kB"]


def test_all_of_them_whatever_the_page(context, call, monkeypatch):
    monkeypatch.setattr("gridkeep.cli.status._PAGE", 4)
    for number in range(9):
        make_run(context, f"run-{number}", ["completed"])
    make_run(context, "theirs", ["completed"], created_by="somebody-else")
    assert [run["name"] for run in json.loads(call("history", "--json").out)] == [
        f"run-{8 - i}" for i in range(9)
    ]
    assert len(json.loads(call("history", "--json", "--global").out)) == 10
    assert len(call("history").out.splitlines()) == 10
