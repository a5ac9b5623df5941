"""Each fault over gRPC fails the clauses that it breaks, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.conformance.clauses import CLAUSES
from edgekit.conformance.suite import run
from edgekit.conformance.target import Target
from tests.conformance.small_grpc import small_grpc
from tests.conformance.small_server import small_server

GRPC = [clause for clause in CLAUSES if clause.area == "grpc"]
FAULTS = {
    "is not ready": {"grpc/health"},
    "another version than REST's": {"grpc/server-metadata"},
    "shapes without the batch": {"grpc/model-metadata"},
    "an empty index": {"grpc/repository-index"},
    "successes are not counted": {"grpc/statistics"},
    "drops the id": {"grpc/id-echoed", "grpc/streaming"},
    "all outputs always": {"grpc/outputs-chosen"},
    "raw tensors only": {"grpc/infer-typed"},
    "any version": {"grpc/refuses-unknown-version"},
    "more tensors than inputs": {"grpc/refuses-extra-tensor"},
    "pads what is short": {"grpc/refuses-short-tensor"},
    "every error is UNKNOWN": {"grpc/status-codes"},
    "answers in any order": {"grpc/streaming", "grpc/streaming-survives"},
    "an error ends the stream": {"grpc/streaming-survives"},
    "the worst classes": {"grpc/classification"},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with small_server() as url:
        yield url


def failed(url: str, *faults: str) -> set[str]:
    with small_grpc(*faults) as address:
        target = Target(url, grpc=address)
        outcomes = run(target, GRPC)
        target.close()
    assert not [o.clause.id for o in outcomes if o.status == "skipped"]
    return {o.clause.id for o in outcomes if o.status == "fail"}


def test_a_right_server_fails_nothing(url: str) -> None:
    assert failed(url) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_clauses_only(url: str, fault: str) -> None:
    assert failed(url, fault) == FAULTS[fault]


def test_no_server_at_the_address_fails_every_clause(url: str) -> None:
    target = Target(url, grpc="127.0.0.1:1")
    outcomes = run(target, [clause for clause in GRPC if clause.level == "must"])
    target.close()
    assert {outcome.status for outcome in outcomes} == {"fail"}
