"""Damaged requests, some of those that `benchmarks/service_mutations.py` sends: no fault, and the worker goes on."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import ROOT
from serving import Running

sys.path.append(str(ROOT / "benchmarks"))

from mutated_requests import KINDS, mutated, originals
from service_mutations import answer, is_fault, status

REQUESTS, SEED = 300, 17


def test_no_damaged_request_brings_about_a_fault(service: Running) -> None:
    images, worker = originals(), service.worker().pid

    def sent(number: int) -> tuple[str, str, bytes]:
        kind, content = mutated(number, SEED, images)
        told = answer(service.port, content)
        return kind, status(told), told

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(sent, range(REQUESTS)))
    assert [told for _, _, told in answers if is_fault(told)] == []
    assert {kind for kind, _, _ in answers} == set(KINDS)
    assert {code for _, code, _ in answers} <= {"2xx", "4xx", "none"}
    assert sum(code == "2xx" for _, code, _ in answers) > REQUESTS // 20
    assert service.worker().pid == worker
    said = service.told.read_text()
    assert "\x1b" not in said
    assert len(said.splitlines()) < 60, "what is sent fills no log"


@pytest.mark.parametrize(
    "told", [b"HTTP/1.1 500 x\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n/tmp/x", b"HTTP/1.1 503 x\r\n\r\n"]
)
def test_a_fault_is_seen_as_one(told: bytes) -> None:
    assert is_fault(told)
    assert not is_fault(b'HTTP/1.1 200 OK\r\n\r\n{"error": "see /docs"}')
