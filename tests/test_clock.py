"""The clock times modules on real engines, as what they will be deployed as."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.build import Builder
from edgekit.clock import ArtifactClock
from edgekit.compress.base import GraphPass, pass_types
from edgekit.errors import EdgekitError
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.progress import Silent
from edgekit.targets import parse_targets
from edgekit.workload import Workload


def _net(width: int) -> Workload:
    """Linear layers: eight times as wide is 64 times as much to compute."""
    torch.manual_seed(0)
    layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)]
    example = torch.randn(1, 32, width)
    return Workload(
        f"net-{width}",
        nn.Sequential(*layers).eval(),
        {"x": example},
        calibration=lambda: [{"x": example.numpy()}] * 4,
    )


def _step(kind: str) -> GraphPass:
    found = pass_types()[kind].model_validate({"type": kind})
    assert isinstance(found, GraphPass)
    return found


def _clock(
    folder: Path, runtimes: Sequence[str], *kinds: str, gpu: str | None = None
) -> ArtifactClock:
    workload = _net(32)
    targets = parse_targets(runtimes, gpu)
    builder = Builder(
        workload, targets, folder / "b", folder, Silent(), probe(this_machine().features)
    )
    return ArtifactClock(builder, workload, [_step(kind) for kind in kinds], threads=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("kinds", [(), ("int8-ptq",)], ids=["fp32", "int8"])
def test_a_wider_net_is_slower(tmp_path: Path, runtime: str, kinds: tuple[str, ...]) -> None:
    clock = _clock(tmp_path, [runtime], *kinds)
    narrow, wide = _net(32), _net(512)
    found = clock.compare(wide, narrow)
    assert found.ratio > found.low > 1.0
    slow, fast = clock.seconds([wide, narrow])
    assert slow > fast > 0.0


def test_it_says_on_what_it_times(tmp_path: Path) -> None:
    assert _clock(tmp_path, ["openvino"], "equalize", "int8-ptq").name == "openvino int8"
    assert _clock(tmp_path, ["onnxruntime"]).name == "onnxruntime"


def test_of_several_engines_it_takes_one(tmp_path: Path) -> None:
    clock = _clock(tmp_path, [])
    assert clock.name in {"onnxruntime", "openvino"}
    assert clock.name == clock.name  # chosen once: the same in every comparison


def test_an_engine_that_cannot_run_here_is_left_out(tmp_path: Path) -> None:
    clock = _clock(tmp_path, ["tensorrt-rtx", "onnxruntime"], gpu="sm89")
    assert clock.name == "onnxruntime"


def test_without_an_engine_there_is_no_clock(tmp_path: Path) -> None:
    machine = probe(this_machine().features)
    for names, there in ((["tensorrt-rtx"], False), (["tensorrt-rtx", "openvino"], True)):
        targets = parse_targets(names, "sm89")
        builder = Builder(_net(8), targets, tmp_path / "b", tmp_path, Silent(), machine)
        assert ArtifactClock.available(builder) is there


def test_what_cannot_be_exported_is_an_error(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if float(x.sum()) > 0 else x

    bad = Workload("odd", Odd().eval(), {"x": torch.zeros(1, 32, 32)})
    with pytest.raises(EdgekitError):
        _clock(tmp_path, ["onnxruntime"]).compare(_net(32), bad)


def test_a_single_layer_is_timed_by_its_own_input(tmp_path: Path) -> None:
    example = torch.randn(1, 8)
    layer = Workload(
        "layer",
        nn.Linear(8, 8).eval(),
        {"hidden": example},
        calibration=lambda: [{"hidden": example.numpy()}] * 4,
    )
    assert _clock(tmp_path, ["onnxruntime"]).seconds([layer])[0] > 0.0


def test_without_calibration_data_the_example_is_timed(tmp_path: Path) -> None:
    bare = _net(32)
    bare.calibration = None
    assert _clock(tmp_path, ["onnxruntime"]).seconds([bare])[0] > 0.0
