"""Every call of the OpenAPI document with whatever schemathesis thinks of: words, never a fault of ours."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.schemas import APIOperation

from tests.api.serving import Served
from tests.unit.made import keep, make_run

SHORT, LONG = 12, 400  # examples of each operation
_SAID = "An unexpected error"


def operations(served: Served) -> list[APIOperation[Any, Any, Any, Any]]:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    found = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
    return [each for each in found if not each.path.endswith("/events")]  # these go on for ever


@pytest.fixture(scope="module", autouse=True)
def filled(served: Served) -> None:
    """Something to find."""
    for state in ("completed", "failed", "queued"):
        _, [experiment] = make_run(served.context, state, [state])
        keep(served.context, experiment, b"out/x.json", b"{}")


def there(served: Served) -> dict[str, str]:
    """Names of what is there, for the parameters of an address."""
    experiment = served.context.catalog.experiment("completed-exp0")
    assert experiment is not None
    artifact = served.context.catalog.artifact_at(experiment.experiment_id, b"out/x.json")
    assert artifact is not None
    return {"run_id": experiment.run, "experiment": experiment.name, "artifact_id": artifact.artifact_id}


@pytest.mark.parametrize("examples", [SHORT, pytest.param(LONG, marks=pytest.mark.long)])
def test_no_call_is_answered_with_a_fault(served: Served, examples: int) -> None:
    found = operations(served)
    assert len(found) > 20
    key, names = served.key(), there(served)
    for operation in found:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=not os.environ.get("CI"),
        )
        @given(case=operation.as_strategy(), real=strategies.booleans())
        def fuzz(case: schemathesis.Case[Any], real: bool) -> None:
            if real and case.method != "DELETE":  # else nearly all would be told that there is no such thing
                case.path_parameters.update(
                    {name: names[name] for name in case.path_parameters if name in names}
                )
            answer = case.call(headers={"x-api-key": key}, timeout=20)
            assert answer.status_code not in (500, 502, 503, 504), (case.as_curl_command(), answer.text)
            if answer.status_code >= 400 and case.operation.path not in ("/login", "/logout"):
                assert "detail" in answer.json(), (case.as_curl_command(), answer.text)

        fuzz()
    assert _SAID not in served.log.read_text() and "Traceback" not in served.log.read_text()
