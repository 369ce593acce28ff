from tests.unit.made import make_run


def test_queued_and_ended(context, call):
    make_run(context, "my-run", ["queued", "completed", "syncing"])
    answer = call("stop", "run", "my-run")
    assert answer.code == 0
    assert answer.out.splitlines() == [
        "my-run-exp1 had already ended (completed).",
        "my-run-exp2 had already ended (its files are being synced).",
        "my-run-exp0: stopped before it had started.",
    ]
    assert context.catalog.experiment("my-run-exp0").reason == "stopped by its owner"


def test_all_forms_of_words(context, call):
    make_run(context, "my-run", ["queued"] * 4)
    assert call("stop", "experiment", "my-run-exp0", "my-run-exp2").code == 0
    assert call("stop", "my-run-exp1").code == 0
    assert [one.state for one in context.catalog.experiments(context.catalog.run("my-run").run_id)] == [
        *("stopped", "stopped", "stopped", "queued")
    ]
    assert call("cancel", "my-run").code == 0
    assert call("stop", "run", "my-run").code == 0


def test_unknown_wrong_and_missing_names(context, call):
    make_run(context, "my-run", ["queued"])
    assert call("stop", "nobody").code == 1
    answer = call("stop", "run", "my-run-exp0")
    assert (answer.code, answer.err.splitlines()[1]) == (1, "Hint: Say `experiment my-run-exp0`.")
    assert call("stop", "run", "my-run", "nobody").code == 1
    assert (
        context.catalog.experiment("my-run-exp0").state == "queued"
    )  # one unknown name, and nothing is done
    assert call("stop", "run").code == 2
    assert call("stop").code == 2
