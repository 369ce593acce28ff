import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from gridkeep.runs import logs
from gridkeep.runs.logs import OutputLog, follow_log, start_of_last_lines
from tests.unit.made import finish, make_run, move_log_to_store, print_to_journal, quiet_home


@given(st.lists(st.sampled_from([b"\n", b"a", b"bc"]), max_size=60), st.integers(0, 8), st.integers(1, 7))
def test_start_of_last_lines(pieces, count, block):
    text, lines = b"".join(pieces), b"".join(pieces).splitlines(keepends=True)
    reads = []

    def read(start, end):
        reads.append(end - start)
        return text[start:end]

    before, logs._BLOCK = logs._BLOCK, block
    try:
        start = start_of_last_lines(count, len(text), read)
    finally:
        logs._BLOCK = before
    assert text[start:] == b"".join(lines[len(lines) - min(count, len(lines)) :])
    assert all(size <= block for size in reads)


def test_log_in_the_journal_then_in_the_store(home):
    with quiet_home(home) as context:
        run, [one] = make_run(context, "my-run", ["running"])
        log = OutputLog(context, run, one)
        assert not log.exists()
        assert b"".join(log.read()) == b""
        print_to_journal(context, one, b"first\n")
        with log:
            assert b"".join(log.read()) == b"first\n"
            print_to_journal(context, one, b"second\n\xff\x00")
            move_log_to_store(context, one)  # the open file is still whole
            assert b"".join(log.read()) == b"second\n\xff\x00"
        log.position = 3
        assert b"".join(log.read()) == b"st\nsecond\n\xff\x00"  # from the store
        assert b"".join(log.read()) == b""
        log.to_last_lines(2)
        assert b"".join(log.read()) == b"second\n\xff\x00"


def test_following_crosses_from_journal_to_store_without_loss(home):
    """The log moves while it is followed, at whatever moment; every byte comes once."""
    lines = [b"line %d\n" % number for number in range(400)]
    with quiet_home(home) as context:
        for round_number in range(6):
            run, [one] = make_run(context, f"run-{round_number}", ["running"])

            def write(one=one, pause=round_number * 0.0004):
                for line in lines:
                    print_to_journal(context, one, line)
                    time.sleep(pause)
                move_log_to_store(context, one)
                finish(context, one)

            writer = threading.Thread(target=write)
            writer.start()
            with OutputLog(context, run, one) as log:
                followed = b"".join(follow_log(context, log, one.experiment_id))
            writer.join()
            assert followed == b"".join(lines)


def test_following_ends_when_the_experiment_is_deleted(home):
    with quiet_home(home) as context:
        run, [one] = make_run(context, "my-run", ["running"])
        print_to_journal(context, one, b"text\n")
        context.catalog.begin_delete([one.experiment_id])
        with OutputLog(context, run, one) as log:
            assert b"".join(follow_log(context, log, one.experiment_id)) == b"text\n"
