from tests.unit.made import make_run, move_log_to_store, print_to_journal


def test_a_run_s_name_means_its_first_experiment(context, call):
    _, [first, second] = make_run(context, "my-run", ["running", "completed"])
    print_to_journal(context, first, b"one\ntwo\nthree")
    print_to_journal(context, second, b"other\n")
    move_log_to_store(context, second)
    assert call("logs", "my-run").out == call("logs", "my-run-exp0").out == "one\ntwo\nthree"
    assert call("logs", "my-run-exp1").out == call("logs", "my-run-exp1", "-f").out == "other\n"
    assert call("logs", "my-run", "-l", "2").out == "two\nthree"
    assert call("logs", "my-run", "-l", "0").out == ""


def test_bytes_are_passed_through(context, home, capfdbinary):
    from gridkeep.cli.main import main

    _, [one] = make_run(context, "my-run", ["running"])
    print_to_journal(context, one, bytes(range(256)))
    assert main(["logs", "my-run"]) == 0
    assert capfdbinary.readouterr().out == bytes(range(256))


def test_no_log_is_said(context, call):
    make_run(context, "my-run", ["queued", "running", "stopped"], reason="stopped by its owner")
    for index, words in enumerate(["is queued", "nothing yet", "no output log: stopped by its owner"]):
        answer = call("logs", f"my-run-exp{index}")
        assert (answer.code, answer.out) == (0, "")
        assert words in answer.err


def test_unknown_name(call):
    answer = call("logs", "nobody")
    assert (answer.code, answer.err.splitlines()[0]) == (1, "Error: There is no experiment named nobody.")
