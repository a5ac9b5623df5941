"""Architectures are checked one by one; what fails is told and does not take the rest along."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgekit.errors import GateError, ModelReferenceError
from edgekit.progress import Silent
from edgekit.zoo.check import suite
from edgekit.zoo.check.coverage import print_coverage, require_coverage
from edgekit.zoo.check.outcome import Outcome, check
from edgekit.zoo.check.suite import chosen, run_suite


def test_an_architecture_is_exported_with_a_dynamic_batch_and_verified() -> None:
    found = check("bert")
    assert found.built
    assert found.exported
    assert found.dynamic
    assert found.verified
    assert min(found.sqnr_db.values()) > 60
    assert found.plain
    assert not found.reasons


def test_fused_attention_that_torch_cannot_convert_is_exported_plain() -> None:
    found = check("t5")
    assert found.verified
    assert not found.plain
    assert "torch.onnx.export" in found.reasons


def test_what_cannot_be_built_is_told_and_counts_for_nothing() -> None:
    found = check("detr")  # its backbone is another package's
    assert not found.built
    assert "timm" in found.reasons["build"]
    assert not found.exported


def test_a_process_that_dies_takes_one_architecture_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_serve", _dying)
    found = run_suite(["bert", "vit"], plain=False, progress=Silent())
    assert [one.reasons for one in found] == [{"process": "the process died"}] * 2
    assert not any(one.exported for one in found)


def _dying(pipe: object) -> None:
    del pipe


def test_a_suite_is_chosen_from_by_parts_of_names() -> None:
    assert len(chosen("transformers", [])) > 400
    assert chosen("transformers", ["distilbert", "convnext"]) == [
        "convnext", "convnextv2", "dinov3_convnext", "distilbert",
    ]  # fmt: skip
    with pytest.raises(ModelReferenceError, match="unknown suite 'tronsformers'"):
        chosen("tronsformers", [])
    with pytest.raises(ModelReferenceError, match="no architecture has frobnicate"):
        chosen("transformers", ["frobnicate"])


def _outcomes(exported: int, verified: int) -> list[Outcome]:
    return [
        Outcome(
            str(index),
            built=True,
            exported=index < exported,
            sqnr_db={"onnxruntime": 130.0, "openvino": 130.0 if index < verified else 20.0},
        )
        for index in range(100)
    ] + [Outcome("unbuilt", reasons={"build": "ImportError: timm"})]


@pytest.mark.parametrize(
    ("exported", "verified", "enough"),
    [(100, 100, True), (95, 95, True), (94, 94, False), (100, 99, True), (100, 98, False)],
)
def test_coverage_is_of_what_was_built(exported: int, verified: int, enough: bool) -> None:
    outcomes = _outcomes(exported, verified)
    if enough:
        require_coverage(outcomes)
    else:
        with pytest.raises(GateError, match=f"{exported} export"):
            require_coverage(outcomes)


def test_nothing_that_was_built_is_no_coverage() -> None:
    with pytest.raises(GateError, match="0 of 1"):
        require_coverage([Outcome("unbuilt")])


def test_the_table_names_causes_and_totals() -> None:
    text = io.StringIO()
    print_coverage(_outcomes(97, 96), Console(file=text, width=120))
    told = text.getvalue()
    assert "unbuilt, build: ImportError: timm" in told
    assert "100 of 101 architectures can be built small; 97 export (0 with a dynamic batch)" in told
    assert "96 of these verify on onnxruntime and openvino" in told
