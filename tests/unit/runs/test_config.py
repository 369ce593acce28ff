from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridkeep.errors import ConfigError
from gridkeep.runs.config import RunConfig, load


def written(folder: Path, text: str | bytes) -> str:
    path = folder / "config.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_all_that_it_may_say(tmp_path):
    text = """
    compute:
      provider: {vendor: aws, region: us-east-1}
      train:
        cpus: 2
        gpus: 1
        memory: 8GB
        parallel: 3
        timeout: 1h30m
        auto_resume: true
        exclude: ["*.tmp"]
        instance: p3.2xlarge
        disk_size: 200
        environment: {A: b, N: 1, T: true, E: }
        actions:
          on_build: pip install .
          on_experiment_start: [date, "echo hi"]
          on_experiment_end: []
    hyper_params:
      settings:
        strategy: random_search
        strategy_options: {num_trials: 4, seed: 7}
      params:
        lr: [0.1, 0.2]
        opt: "uniform(1,2,3)"
    """
    assert load(written(tmp_path, text)) == RunConfig(
        cpus=2.0,
        gpus=1,
        memory="8GB",
        parallel=3,
        timeout=5400.0,
        auto_resume=True,
        exclude=["*.tmp"],
        environment={"A": "b", "N": "1", "T": "true", "E": ""},
        on_build=["pip install ."],
        on_experiment_start=["date", "echo hi"],
        on_experiment_end=[],
        strategy="random_search",
        num_trials=4,
        seed=7,
        params={"lr": [0.1, 0.2], "opt": "uniform(1,2,3)"},
        without_effect=["compute.provider", "compute.train.instance", "compute.train.disk_size"],
    )


@pytest.mark.parametrize("text", ["", "compute:\n", "compute:\n  train:\n    cpus:\n"])
def test_what_is_empty_says_nothing(tmp_path, text):
    assert load(written(tmp_path, text)) == RunConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("compute:\n  train:\n    cpu: 1", "`compute.train.cpu` is no known key. Did you mean `cpus`?"),
        ("hyperparams: {}", "`hyperparams` is no known key. Did you mean `hyper_params`?"),
        ("compute:\n  train:\n    colour: 1", "Known are actions, auto_resume, cpus"),
        ("1: 2", "`1` is no known key"),
        ("- a", "the file must hold keys"),
        ("compute: 5", "compute must hold keys"),
        (
            "compute:\n  train:\n    cpus: many",
            "`compute.train.cpus` cannot be used: it must be a number above 0",
        ),
        ("compute:\n  train:\n    cpus: .inf", "above 0"),
        ("compute:\n  train:\n    gpus: -1", "whole number of 0 or more"),
        ("compute:\n  train:\n    gpus: true", "whole number"),
        ("compute:\n  train:\n    memory: lots", "'lots' is not a size"),
        ("compute:\n  train:\n    timeout: soon", "'soon' is not a duration"),
        ("compute:\n  train:\n    timeout: 0", "longer than nothing"),
        ("compute:\n  train:\n    actions: {on_build: [1]}", "text or a list of texts"),
        ("compute:\n  train:\n    environment: {'A=B': 1}", "cannot be the name of a variable"),
        ("hyper_params:\n  settings:\n    strategy: bayes", "grid_search, random_search, none"),
        ("hyper_params:\n  params:\n    on: 1", "put it in quotes"),
        ("hyper_params:\n  params:\n    a: {b: 1}", "several levels below a"),
        ("a: 1\nb: [1}\nc: 2\n", "at line 2"),
        ("a: !!python/object/apply:os.system ['true']", "line 1"),
        ("a: 2020-99-99", "not valid YAML"),
        (b"\xff\xfe\xfd", "not valid YAML"),
        ("[" * 3000, "not valid YAML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, says):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "none.yml"))


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_it_holds_it_is_read_or_explained(tmp_path, content):
    try:
        load(written(tmp_path, content))
    except ConfigError:
        pass
