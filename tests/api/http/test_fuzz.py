"""The interface does what its own document says, whatever is sent."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.fakes.service import load

from segdex.http.app import build_app
from segdex.http.state import ServiceState
from segdex.wiring import build_settings

HERE = {"Host": "localhost"}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def send_to(operation: schemathesis.APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> Counter[int]:
    """Send whatever the document allows, and what it does not; return how often each status came back."""
    statuses: Counter[int] = Counter()

    @settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case[Any]) -> None:
        statuses[case.call_and_validate(checks=CHECKS, headers=HERE).status_code] += 1

    send()
    return statuses


@pytest.mark.slow
def test_whatever_is_sent_is_answered_as_documented(tmp_path: Path) -> None:
    chosen = build_settings(uploads=tmp_path / "uploads", rate_per_minute=1_000_000)
    state = ServiceState(chosen, (), lambda: load(tmp_path / "set", settings=chosen))
    state.start()
    state.wait()
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", build_app(state), headers=HERE)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert not [found for found in schema.get_all_operations() if not isinstance(found, Ok)]

    allowed: Counter[int] = Counter()
    for operation in operations:
        allowed += send_to(operation, GenerationMode.POSITIVE)
        if operation.body or operation.path_parameters or operation.query:
            with suppress(Unsatisfiable):  # of a path that takes any text
                send_to(operation, GenerationMode.NEGATIVE)
    assert {200, 404} <= set(allowed)
    assert len(operations) >= 15
    state.close()
