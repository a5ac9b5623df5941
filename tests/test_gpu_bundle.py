"""One bundle with engines for several GPUs: what is in it, and which engine is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.errors import ExportError, RuntimeUnavailableError
from edgekit.gpu import find_gpu
from edgekit.manifest import Artifact
from edgekit.pipeline import make_bundle
from edgekit.report.page import render
from edgekit.report.table import rows
from edgekit.serve.loading import choose_artifact
from edgekit.targets import parse_targets
from edgekit.verify import unusable
from edgekit.workload import Workload
from tests.engines import small_bundle, small_workload

RTX = "tensorrt-rtx"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("gpus") / "m.edge", "int8", "sm75,sm89,sm120")


def _engines(bundle: Bundle, gpu: str) -> dict[str, Artifact]:
    return {a.precision: a for a in bundle.manifest.artifacts if a.target == gpu}


@pytest.mark.parametrize("gpu", ["sm89", "sm120"])
def test_each_gpu_has_its_engines_and_how_they_were_built(several: Bundle, gpu: str) -> None:
    engines = _engines(several, gpu)
    assert set(engines) == {"fp32", "int8"}
    for artifact in engines.values():
        assert artifact.id.endswith(f"-{gpu}")
        record = artifact.engine
        assert record is not None
        assert (record.builder, record.gpus, record.workspace) == (RTX, (gpu,), 2**28)
        assert record.version == several.manifest.versions[RTX]
        assert record.shapes["x"].largest == (32, 8)


def test_turing_gets_fp16_where_it_has_no_float32_product_and_a_note_says_so(
    several: Bundle,
) -> None:
    assert set(_engines(several, "sm75")) == {"fp16", "int8-fp16"}
    told = [note for note in several.manifest.notes if "sm75" in note]
    assert told
    assert all("no float32 matrix product" in note for note in told)


def test_what_was_verified_is_the_graph_that_the_engine_is_of(several: Bundle) -> None:
    records = {record.artifact: record for record in several.manifest.verification}
    fine, coarse = (records[f"{RTX}-{p}"].outputs["output"] for p in ("fp32-sm89", "fp16-sm75"))
    assert coarse.sqnr_db < 90.0 < fine.sqnr_db


def test_each_gpu_has_a_decision_and_rows_of_its_own(several: Bundle) -> None:
    manifest = several.manifest
    assert [(d.runtime, d.target) for d in manifest.decisions] == [
        (RTX, gpu) for gpu in ("sm75", "sm89", "sm120")
    ]
    shown = [row.artifact.id for row in rows(manifest)]
    assert sorted(shown) == sorted(a.id for a in manifest.artifacts)


def test_the_report_tells_the_gpus_apart(several: Bundle) -> None:
    page = render(several.manifest)
    for gpu in ("sm75", "sm89", "sm120"):
        assert f"<b>{RTX}</b> {gpu}" in page


@pytest.mark.parametrize("gpu", ["sm75", "sm89", "sm120"])
def test_the_engine_that_fits_the_gpu_is_taken(several: Bundle, gpu: str) -> None:
    assert several.selected(RTX, gpu).target == gpu


def test_where_none_fits_the_command_that_builds_it_is_told(several: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError) as caught:
        several.selected(RTX, "sm86")
    told = str(caught.value)
    assert "engines are for sm75, sm89, sm120, this GPU is sm86" in told
    command = "edgekit compress mine.py:small --recipe int8 --runtime tensorrt-rtx --gpu"
    assert f"{command} sm75,sm89,sm120,sm86" in told


@pytest.mark.skipif(bool(find_gpu()[0]), reason="tells what a machine without a GPU says")
def test_without_a_gpu_nothing_is_served_and_the_reason_is_told_once(several: Bundle) -> None:
    assert unusable(RTX, "sm89") == find_gpu()[1]
    with pytest.raises(RuntimeUnavailableError) as caught:
        choose_artifact(several, None)
    assert str(caught.value).count(find_gpu()[1]) == 1


def test_what_one_gpu_cannot_compute_is_left_out_for_it_only(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "m.edge", "bf16", "sm75,sm89")
    assert set(_engines(bundle, "sm89")) == {"fp32", "bf16"}
    assert set(_engines(bundle, "sm75")) == {"fp16"}
    assert any("no bfloat16 arithmetic for sm75" in note for note in bundle.manifest.notes)


def test_float8_is_for_gpus_that_have_it_and_for_no_other_engine(tmp_path: Path) -> None:
    bundle = make_bundle(
        small_workload(),
        tmp_path / "m.edge",
        recipe=load_recipe("fp8"),
        targets=parse_targets(["onnxruntime", RTX], "sm86,sm89"),
        timing=None,
    )
    ids = {artifact.id for artifact in bundle.manifest.artifacts}
    made = {f"{RTX}-fp32-sm86", f"{RTX}-fp32-sm89", f"{RTX}-fp8-fp16-sm89"}
    assert ids == {"onnxruntime-fp32", "onnxruntime-fp16"} | made
    record = next(v for v in bundle.manifest.verification if "fp8" in v.artifact)
    assert record.passed
    assert 15.0 < record.outputs["output"].sqnr_db < 60.0
    assert any("no float8 arithmetic for sm86" in note for note in bundle.manifest.notes)


def test_what_a_gpu_cannot_compute_at_all_is_refused(tmp_path: Path) -> None:
    workload = Workload(
        name="lstm",
        model=_Recurrent().eval(),
        example_inputs={"x": torch.randn(1, 4, 8)},
        calibration=lambda: [{"x": torch.randn(8, 4, 8).numpy()}],
    )
    with pytest.raises(ExportError, match="Leave sm75 out of --gpu"):
        make_bundle(
            workload,
            tmp_path / "m.edge",
            recipe=load_recipe("fp32"),
            targets=parse_targets([RTX], "sm75"),
            timing=None,
        )
    assert not (tmp_path / "m.edge").exists()


class _Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cell(x)[1][0][0]
