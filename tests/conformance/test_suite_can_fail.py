"""Each fault of a server fails the clauses that it breaks, and no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgekit.conformance.clauses import CLAUSES
from edgekit.conformance.suite import conforms, run
from edgekit.conformance.target import Reply, Target
from tests.conformance.small_server import SmallServer, running

FAULTS = {
    "no extensions": {"rest/server-metadata"},
    "says it is not ready": {"rest/live-body", "rest/ready-body"},
    "null for a dynamic size": {"rest/tensor-metadata", "rest/output-tensors"},
    "no version in the response": {"rest/infer-version", "rest/model-version"},
    "any version": {"rest/refuses-unknown-version"},
    "all outputs always": {"rest/outputs-chosen"},
    "drops the id": {"rest/id-echoed"},
    "a new id each time": {"rest/id-not-made-up"},
    "flat data only": {"rest/nested-data"},
    "NaN in JSON": {"rest/nan-is-valid-json"},
    "any shape": {
        "rest/refuses-negative-dimension",
        "rest/refuses-fractional-dimension",
        "rest/refuses-huge-dimension",
        "rest/refuses-overflowing-shape",
        "rest/refuses-wrong-rank",
    },
    "errors like FastAPI's": {
        "rest/error-bodies",
        "rest/error-body-of-a-path",
        "rest/error-body-of-a-method",
        "rest/unknown-is-404",
        "repository/load-unknown",
    },
    "every error is a 500": {"rest/client-errors-are-4xx", "rest/unknown-is-404"},
    "big-endian inputs": {"binary/inputs", "binary/inputs-mixed", "binary/bytes"},
    "BYTES without lengths": {
        "binary/no-tail",
        "binary/bytes",
        "binary/response-header",
        "binary/output-default",
        "binary/output-one",
        "binary/outputs-mixed",
        "classification/binary",
    },
    "the request's default wins": {"binary/output-overrides"},
    "ignores what follows the last tensor": {"binary/refuses-long-tail"},
    "READY whatever the state": {"repository/unload-and-load"},
    "unload does nothing": {"repository/unload-and-load"},
    "loads anything": {"repository/load-unknown", "repository/load-outside"},
    "successes are not counted": {"statistics/successes"},
    "the worst classes": {"classification/best", "classification/binary"},
}


@pytest.fixture(scope="module")
def small() -> Iterator[SmallServer]:
    with running() as small:
        yield small


def failed(small: SmallServer, *faults: str) -> tuple[set[str], bool]:
    """The clauses that fail, and whether the server conforms all the same."""
    small.faults = set(faults)
    target = Target(small.url, unload=True)
    outcomes = run(target)
    target.close()
    return {o.clause.id for o in outcomes if o.status == "fail"}, conforms(outcomes)


def test_a_right_server_fails_nothing(small: SmallServer) -> None:
    assert failed(small) == (set(), True)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_clauses_only(small: SmallServer, fault: str) -> None:
    assert failed(small, fault)[0] == FAULTS[fault]


def test_hardly_a_clause_passes_where_every_answer_is_an_empty_object(small: SmallServer) -> None:
    small.faults = set()
    target = Target(small.url, unload=True)
    assert target.extensions
    target.send = lambda *_, **__: Reply(200, {}, b"{}")
    outcomes = run(target)
    target.close()
    assert {o.clause.id for o in outcomes if o.status == "pass"} == {
        "rest/live",  # it answers 200
        "rest/ready",
        "rest/model-ready",
        "rest/tensor-metadata",  # of what it told before
        "rest/nan-is-valid-json",
        "rest/error-bodies",  # it refuses nothing, as other clauses tell
        "rest/client-errors-are-4xx",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[3]",
        b'[{"state": "READY"}]',
        b'{"outputs": [{"name": []}], "model_stats": [3], "extensions": 7}',
        b'{"outputs": [{"name": "x", "parameters": 3}], "model_stats": [{"inference_stats": 1}]}',
        b"\xff",
    ],
)
def test_an_answer_of_any_form_is_an_outcome(small: SmallServer, body: bytes) -> None:
    small.faults = set()
    target = Target(small.url, unload=True)
    assert target.extensions
    target.send = lambda *_, **__: Reply(200, {}, body)
    assert len(run(target)) == len(CLAUSES)
    target.close()


def test_advice_that_is_not_followed_still_conforms(small: SmallServer) -> None:
    found, conforming = failed(small, "a new id each time")
    assert found
    assert conforming


def test_a_broken_promise_of_an_extension_does_not_conform(small: SmallServer) -> None:
    assert not failed(small, "the worst classes")[1]
