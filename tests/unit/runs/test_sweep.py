import os
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridkeep.errors import ConfigError
from gridkeep.runs.sweep import Combination, plan, read_arguments, read_params


def experiments(*args: str, **options: Any) -> list[Combination]:
    return plan(read_arguments(args), **options).combinations


def values_of(text: str, **options: Any) -> list[Any]:
    return [each.params["x"] for each in experiments("--x", text, **options)]


# ------------------------------------------------------------------------------------------------ what is typed


def test_the_first_argument_is_the_slowest():
    found = experiments("--lr", "[0.1,0.01]", "--opt=['a','b']", "data.csv", "-v")
    assert [each.args for each in found] == [
        ["--lr", lr, f"--opt={opt}", "data.csv", "-v"] for lr in ("0.1", "0.01") for opt in ("a", "b")
    ]
    assert found[1].params == {"lr": 0.1, "opt": "b", "arg1": "data.csv", "v": True}


@pytest.mark.parametrize(
    ("text", "words", "params"),
    [
        ("[0.1, 1e-5, 10]", ["0.1", "1e-05", "10"], [0.1, 1e-5, 10]),
        ("['a','b c']", ["a", "b c"], ["a", "b c"]),
        ("[True,None,-1]", ["True", "None", "-1"], [True, None, -1]),
        ("[[1,2],(3,)]", ["[1, 2]", "(3,)"], [[1, 2], [3]]),
        ("['1']", ["1"], ["1"]),
        ("  [1]  ", ["1"], [1]),
        ("[1,\n2]", ["1", "2"], [1, 2]),
        ("range(1,10,4)", ["1", "5", "9"], [1, 5, 9]),
        ("range(2)", ["0", "1"], [0, 1]),
        ("range(3,0,-2)", ["3", "1"], [3, 1]),
        ("[1e999]", ["inf"], ["inf"]),
    ],
)
def test_lists_and_ranges(text, words, params):
    found = experiments("--x", text)
    assert [each.args for each in found] == [["--x", word] for word in words]
    assert [each.params["x"] for each in found] == params


@pytest.mark.parametrize(
    "text",
    [
        "[a,b]",
        "[1,2",
        "[1]+[2]",
        "[x for x in (1,2)]",
        "[0-9]+",
        "[__import__('os').system('true')]",
        "[" * 500 + "]" * 500,
        "(1,2)",
        "{'a': 1}",
        "uniform",
        "uniform(",
        "normal (see the notes)",
        "other(1,2,3)",
        "np.uniform(1,2,3)",
        "[{[]: 1}]",
        "[1, \udcff]",
    ],
)
def test_what_is_no_list_is_passed_on_as_it_is(text):
    assert [each.args for each in experiments(text)] == [[text]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("uniform(1,2)", "size"),
        ("uniform(2,1,3)", "low is above high"),
        ("uniform(1,2,3,4)", "too many"),
        ("uniform(1,2,num=3)", "num"),
        ("uniform('a',2,3)", "low must be a number"),
        ("uniform(True,2,3)", "low must be a number"),
        ("uniform(1,2,0)", "1 or more"),
        ("uniform(1,2,2.5)", "whole number"),
        ("uniform(1e999,2,3)", "number"),
        ("uniform(-1e308,1e308,3)", "too large"),
        ("lognormal(1e6,1,2)", "too large"),
        ("normal(0,-1,3)", "negative"),
        ("loguniform(0,1,3)", "above 0"),
        ("randint(5,5,3)", "below high"),
        ("randint(1.5,5,3)", "whole number"),
        ("choice([],3)", "list with values"),
        ("choice(5,3)", "list with values"),
        ("choice([1,2])", "size"),
        ("range()", "one to three"),
        ("range(1,2,0)", "zero"),
        ("range(5,1)", "no values"),
        ("range(0.5)", "whole number"),
        ("[]", "no values"),
        ("['a\\0']", "NUL"),
        ("['\\ud800']", "surrogate"),
        ("[0x" + "f" * 5000 + "]", "too long"),
        ("uniform(open('/etc/passwd'),2,3)", "not plain"),
        ("uniform(**{'size': 3})", "**"),
    ],
)
def test_clear_mistakes_are_explained(text, says):
    with pytest.raises(ConfigError, match=r".") as caught:
        experiments("--x", text)
    assert says in f"{caught.value.message} {caught.value.hint}"


def test_what_follows_a_double_dash_is_positional():
    found = experiments("--", "--x", "[1,2]")
    assert [each.args for each in found] == [["--", "--x", "1"], ["--", "--x", "2"]]
    assert found[0].params == {"arg1": "--x", "arg2": 1}


def test_parameters_have_types_and_names_of_their_own():
    found = experiments("--n", "3", "--f", "-1e-3", "--n", "007", "--b", "False", "-q", "--", "\udcff")
    assert found[0].params == {"n": 3, "f": -0.001, "n.2": "007", "b": False, "q": True, "arg1": "\ufffd"}
    assert found[0].args[-1] == "\udcff"


def test_no_arguments_are_one_experiment():
    assert [(each.args, each.params) for each in experiments()] == [([], {})]


def test_strategy_none_passes_text_on():
    arguments = read_arguments(["--x", "[1,2]", "uniform(1,2)"], sweep=False)
    assert [each.args for each in plan(arguments, strategy="none").combinations] == [
        ["--x", "[1,2]", "uniform(1,2)"]
    ]


def test_parameters_of_a_file():
    arguments = read_params({"lr": [0.1, 0.2], "opt": "adam", "n": "range(2)", "fast": None, "-k": 3})
    found = plan(arguments).combinations
    assert len(found) == 4
    assert found[1].args == ["--lr", "0.1", "--opt", "adam", "--n", "1", "--fast", "-k", "3"]
    assert found[1].params == {"lr": 0.1, "opt": "adam", "n": 1, "fast": True, "k": 3}


# ------------------------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("uniform(1e-5,1e-1,40)", lambda v: isinstance(v, float) and 1e-5 <= v <= 1e-1),
        ("uniform(size=40, high=2, low=1)", lambda v: 1 <= v <= 2),
        ("uniform(size=40)", lambda v: 0 <= v <= 1),
        ("normal(100,1,40)", lambda v: 80 < v < 120),
        ("normal(loc=5, scale=0, size=40)", lambda v: v == 5),
        ("lognormal(0,1,40)", lambda v: v > 0),
        ("loguniform(1e-6,1,40)", lambda v: 1e-6 <= v <= 1),
        ("randint(1,4,40)", lambda v: isinstance(v, int) and 1 <= v < 4),
        ("randint(4,size=40)", lambda v: 0 <= v < 4),
        ("choice(['a','b',3],40)", lambda v: v in ("a", "b", 3)),
        ("choice(a=[1], size=40)", lambda v: v == 1),
    ],
)
def test_distributions_stay_in_their_bounds(text, fits):
    found = values_of(text, seed=3)
    assert len(found) == 40
    assert all(fits(value) for value in found)


def test_loguniform_is_even_over_magnitudes():
    found = values_of("loguniform(1e-6,1,4000)", seed=1)
    assert 0.45 < sum(value < 1e-3 for value in found) / 4000 < 0.55


def test_all_of_randint_and_choice_come_up():
    assert set(values_of("randint(1,4,200)", seed=1)) == {1, 2, 3}
    assert set(values_of("choice([1,2,3],200)", seed=1)) == {1, 2, 3}


def test_a_seed_repeats_the_values_on_every_machine():
    assert values_of("uniform(0,1,2)", seed=7) == [0.7059339087777089, 0.6168329049611778]
    assert values_of("randint(0,1000,3)", seed=7) == values_of("randint(0,1000,3)", seed=7)
    assert values_of("uniform(0,1,2)", seed=8) != values_of("uniform(0,1,2)", seed=7)


def test_two_arguments_do_not_draw_the_same():
    found = experiments("uniform(0,1,1)", "uniform(0,1,1)", seed=1)[0]
    assert found.args[0] != found.args[1]


def test_without_a_seed_one_is_made_up_and_told():
    made = plan(read_arguments(["uniform(0,1,3)"]))
    assert made.seed is not None
    again = plan(read_arguments(["uniform(0,1,3)"]), seed=made.seed)
    assert again.combinations == made.combinations
    assert plan(read_arguments(["[1,2]"])).seed is None


# ------------------------------------------------------------------------------------------------ random search


def test_random_search_draws_without_repeats():
    found = experiments("range(30)", "range(30)", strategy="random_search", num_trials=200, seed=5)
    drawn = [tuple(each.args) for each in found]
    assert len(set(drawn)) == 200
    assert drawn == [
        tuple(each.args)
        for each in experiments("range(30)", "range(30)", strategy="random_search", num_trials=200, seed=5)
    ]
    assert drawn != sorted(drawn)


def test_more_trials_than_combinations_are_all_of_them():
    made = plan(read_arguments(["[1,2,3]"]), strategy="random_search", num_trials=9)
    assert sorted(each.args[0] for each in made.combinations) == ["1", "2", "3"]
    assert "all are run" in made.notes[0]


def test_random_search_draws_from_more_than_can_be_built():
    started = time.monotonic()
    wide = ["range(1000000000000)"] * 5
    made = plan(read_arguments(wide), strategy="random_search", num_trials=100, seed=1)
    assert len(made.combinations) == 100
    assert time.monotonic() - started < 1


def test_random_search_needs_a_number_of_trials():
    with pytest.raises(ConfigError, match="number of trials"):
        plan([], strategy="random_search")


def test_a_number_of_trials_without_random_search_is_told():
    made = plan(read_arguments(["[1,2,3]"]), num_trials=2)
    assert len(made.combinations) == 3
    assert "no effect" in made.notes[0]


# ------------------------------------------------------------------------------------------------ the limit


@pytest.mark.parametrize(
    ("args", "count"),
    [
        (["range(10001)"], "10,001"),
        (["range(1000000)", "range(1000000)"], "1,000,000,000,000"),
        (["uniform(0,1,1000000000000)"], "1,000,000,000,000"),
        (["range(9223372036854775807)"] * 40, "10^30"),
    ],
)
def test_too_many_are_counted_not_built(args, count):
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        experiments(*args)
    assert count in caught.value.message
    assert time.monotonic() - started < 0.5


def test_the_limit_itself_is_allowed():
    assert len(experiments("range(100)", "range(100)")) == 10_000
    with pytest.raises(ConfigError):
        experiments("range(3)", limit=2)


# ------------------------------------------------------------------------------------------------ anything at all

code_like = st.text(alphabet="[](){}'\",.:=*-+ 0123456789abefglnorimuxs\\\n\0", max_size=40)
calls = st.builds(
    "{}({})".format,
    st.sampled_from(["range", "uniform", "normal", "lognormal", "loguniform", "randint", "choice"]),
    st.lists(
        st.sampled_from(["1", "-2", "0.5", "[1,2]", "'a'", "size=3", "low=1", "1e400", "None", "x()", "*a"])
    ).map(",".join),
)


@given(st.lists(st.text() | code_like | calls, max_size=4))
def test_nothing_but_a_config_error_is_raised(args):
    try:
        made = plan(read_arguments(args), seed=1, limit=50)
    except ConfigError:
        return
    assert 1 <= len(made.combinations) <= 50
    for each in made.combinations:
        assert all("\0" not in word and os.fsencode(word) is not None for word in each.args)


@pytest.mark.parametrize(
    "form", ["[{}]", "uniform({},2,3)", "choice([{}],2)", "range({})", "{}", "[f'{{{}}}']"]
)
def test_nothing_is_executed(form, tmp_path):
    trap = tmp_path / "executed"
    text = form.format(f"__import__('pathlib').Path({str(trap)!r}).touch()")
    try:
        plan(read_arguments([text, f"--x={text}"]))
    except ConfigError:
        pass
    assert not trap.exists()


def test_warnings_of_the_parser_are_not_shown(tmp_path):
    code = "from gridkeep.runs.sweep import read_arguments; read_arguments(['[1](2)', '[\"\\\\d\"]'])"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, check=True)
    assert done.stderr == b""
