"""What the OpenAPI document says is what the service does, whatever is sent."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from serving import Running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis")

from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

EXAMPLES = 12
"""Of each operation, valid and invalid ones; the benchmark of damaged requests sends more."""


@pytest.fixture(scope="module")
def operations(service: Running) -> dict[str, Any]:
    """All operations of the document, by their label."""
    document = service.get("/openapi.json").json
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{service.port}")
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def asked(operation: Any, mode: Any, known: dict[str, str]) -> int:
    """Asks for an operation in many ways and checks the answers. Returns how often it was asked."""
    count = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        nonlocal count
        count += 1
        if mode == schemathesis.GenerationMode.POSITIVE:
            case.path_parameters |= {name: known[name] for name in known if name in case.path_parameters}
        case.call_and_validate(checks=CHECKS)

    with suppress(Unsatisfiable):  # nothing about it can be invalid
        check()
    return count


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_operation_answers_as_its_document_says(
    service: Running, operations: dict[str, Any], good_image: bytes, mode: Any
) -> None:
    (judged,) = service.judge(good_image).json["results"]
    assert len(operations) == 13
    counts = {label: asked(found, mode, {"name": "parts", "id": judged["id"]}) for label, found in operations.items()}
    assert counts["POST /v1/models/{name}/predict"] >= EXAMPLES
    assert sum(counts.values()) >= 5 * EXAMPLES
    assert service.judge(good_image).status == 200
