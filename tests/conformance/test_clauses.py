"""The real daemon conforms: one test for each clause, on two models of different inputs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.conformance.clause import Clause
from edgekit.conformance.clauses import CLAUSES
from edgekit.conformance.suite import check
from edgekit.conformance.target import Target
from tests.daemon import start, stop

#: Clauses about inputs that no engine here takes; the small server is checked for them.
ABOUT_OTHER_MODELS = {
    "rest/sixteen-bit-json",
    "binary/bytes",
    "binary/refuses-long-prefix",
}


@pytest.fixture(scope="module")
def targets(
    built: Path, pair: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Target]]:
    folder = tmp_path_factory.mktemp("models")
    for bundle in (built, pair):
        shutil.copytree(bundle, folder / bundle.name)
    server = start(folder, "--runtime", "onnxruntime", "--grpc-port", "0")
    (grpc,) = re.findall(r"gRPC at (\S+:\d+)", server.told)
    found = [
        Target(server.url, model=model, grpc=grpc, unload=True) for model in ("residual", "pair")
    ]
    yield found
    for target in found:
        target.close()
    stop(server)


@pytest.mark.parametrize("clause", CLAUSES, ids=[clause.id for clause in CLAUSES])
def test_the_server_keeps(clause: Clause, targets: list[Target]) -> None:
    outcomes = [check(clause, target) for target in targets]
    assert [o for o in outcomes if o.status == "fail"] == []
    applied = any(o.status == "pass" for o in outcomes)
    assert applied != (clause.id in ABOUT_OTHER_MODELS), [o.reason for o in outcomes]


def test_every_clause_has_an_id_of_its_own() -> None:
    assert len({clause.id for clause in CLAUSES}) == len(CLAUSES)
