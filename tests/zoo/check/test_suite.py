"""Architectures are checked one by one; what fails is told and does not take the rest along."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from edgekit.errors import GateError, ModelReferenceError
from edgekit.progress import Silent
from edgekit.zoo.check import suite
from edgekit.zoo.check.checked import Checks
from edgekit.zoo.check.coverage import print_coverage, require_coverage, totals
from edgekit.zoo.check.journal import Journal
from edgekit.zoo.check.outcome import Outcome, check
from edgekit.zoo.check.suite import SUITES, chosen, run_suite


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "helium",  # a root kept from zero by 1e-8
        "vit_mae",  # random masking
        "clip",
        "patchtst",
    ],
)
def test_an_architecture_is_exported_with_a_dynamic_batch_and_verified(kind: str) -> None:
    found = check(kind, Checks(plain=False, gpu="sm89"))
    assert found.built
    assert found.exported
    assert found.dynamic
    assert found.verified
    assert min(found.sqnr_db.values()) > 60
    assert found.engine
    assert found.plain is None
    assert not found.reasons


def test_what_torch_cannot_export_alone_is_exported() -> None:
    found = check("xlnet")
    assert found.verified
    assert found.plain is False
    assert found.engine is None
    assert "torch.onnx.export" in found.reasons


def test_what_cannot_be_built_is_told_and_counts_for_nothing() -> None:
    found = check("detr")  # its backbone is another package's
    assert not found.built
    assert "timm" in found.reasons["build"]
    assert not found.exported


def test_a_process_that_dies_takes_one_architecture_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "_serve", _dying)
    journal = Journal(tmp_path / "found.jsonl", "transformers", Checks(), Outcome)
    kinds = ["bert", "vit"]
    found = run_suite(
        SUITES["transformers"], kinds, Checks(), progress=Silent(), journal=journal, jobs=2
    )
    assert [one.kind for one in found] == kinds
    assert [one.reasons for one in found] == [{"process": "the process died"}] * 2
    assert not any(one.exported for one in found)
    written = Journal(tmp_path / "found.jsonl", "transformers", Checks(), Outcome).outcomes
    assert sorted(written) == kinds


def _dying(pipe: object) -> None:
    del pipe


def test_a_suite_is_chosen_from_by_parts_of_names() -> None:
    assert len(chosen("transformers", [])) > 400
    assert chosen("transformers", ["distilbert", "convnext"]) == [
        "convnext", "convnextv2", "dinov3_convnext", "distilbert",
    ]  # fmt: skip
    with pytest.raises(ModelReferenceError, match="unknown suite 'tronsformers'"):
        chosen("tronsformers", [])
    with pytest.raises(ModelReferenceError, match="nothing has frobnicate"):
        chosen("transformers", ["frobnicate"])


def _outcomes(exported: int, verified: int, engines: int | None = None) -> list[Outcome]:
    return [
        Outcome(
            kind=str(index),
            family="text" if index % 2 else "vision",
            built=True,
            exported=index < exported,
            sqnr_db={"onnxruntime": 130.0, "openvino": 130.0 if index < verified else 20.0},
            engine=None if engines is None else index < engines,
        )
        for index in range(100)
    ] + [Outcome(kind="unbuilt", reasons={"build": "ImportError: timm"})]


@pytest.mark.parametrize(
    ("exported", "verified", "engines", "enough"),
    [
        (100, 100, None, True),
        (95, 95, None, True),
        (94, 94, None, False),
        (100, 99, None, True),
        (100, 98, None, False),
        (100, 100, 85, True),
        (100, 100, 84, False),
    ],
)
def test_coverage_is_of_what_was_built(
    exported: int, verified: int, engines: int | None, enough: bool
) -> None:
    outcomes = _outcomes(exported, verified, engines)
    if enough:
        require_coverage(outcomes)
    else:
        with pytest.raises(GateError, match=f"{exported} export"):
            require_coverage(outcomes)


def test_nothing_that_was_built_is_no_coverage() -> None:
    with pytest.raises(GateError, match="0 of 1"):
        require_coverage([Outcome(kind="unbuilt")])


def test_the_table_names_causes_and_totals() -> None:
    text = io.StringIO()
    print_coverage(_outcomes(97, 96, 90), Console(file=text, width=120))
    told = text.getvalue()
    assert "unbuilt, build: ImportError: timm" in told
    assert "100 of 101 architectures can be built small; 97 export (0 with a dynamic batch)" in told
    assert "96 of these verify on onnxruntime and openvino, TensorRT-RTX builds 90" in told
    assert "torch.onnx.export alone" not in told  # it was not tried


def test_totals_are_by_family() -> None:
    found = totals(_outcomes(97, 96))
    assert [one.family for one in found] == ["text", "vision", "all"]
    assert [one.built for one in found] == [50, 50, 100]
    assert [one.exported for one in found] == [48, 49, 97]
    assert [one.verified for one in found] == [48, 48, 96]
    assert {one.plain for one in found} == {one.engines for one in found} == {None}
