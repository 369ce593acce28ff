import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.errors import UsageError
from gridkeep.model import valid_run_name
from gridkeep.runs.names import allowed_name, check_name, made_up_name


def test_made_up_names_are_allowed_and_differ():
    names = {made_up_name() for _ in range(300)}
    assert all(valid_run_name(name) and len(name.split("-")) == 3 for name in names)
    assert len(names) > 290


@pytest.mark.parametrize("name", ["a", "a-b", "0", "a" * 63, "exp0", "run-experiment"])
def test_allowed(name):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "says", "suggests"),
    [
        ("Foo_Bar", "lowercase", "foo-bar"),
        ("a..b", "'.' is not allowed", "a-b"),
        ("..", "'.' is not allowed", None),
        ("a/b", "'/' is not allowed", "a-b"),
        ("my run", "' ' is not allowed", "my-run"),
        ("x-exp3", "-expN", "x"),
        ("x-exp1-exp2", "-expN", "x"),
        ("-a-", "begin and end", "a"),
        ("a" * 64, "64 characters", "a" * 63),
        ("", "empty", None),
        ("a\n", "'\\n' is not allowed", "a"),
        ("é\udcff", "not allowed", None),
    ],
)
def test_refused_with_the_reason_and_a_name_that_is_allowed(name, says, suggests):
    with pytest.raises(UsageError) as caught:
        check_name(name)
    assert says in caught.value.message
    assert caught.value.hint is not None
    suggestion = caught.value.hint.split("--name ")[1].rstrip("`.")
    assert valid_run_name(suggestion)
    assert suggests in (None, suggestion)


@given(st.text())
def test_a_suggestion_is_always_allowed(name):
    assert valid_run_name(allowed_name(name))
