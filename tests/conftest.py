"""Real artifacts that many tests share: a trained-looking small CNN, its data, its bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import settings
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.machine import this_machine
from edgekit.numerics import probe
from edgekit.pipeline import Timing, make_bundle
from edgekit.spec import Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Metric, Workload

SHAPE = (3, 16, 16)

# A shared machine may stall at any moment; how long an example takes proves nothing.
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")


#: The runtimes that load ONNX files themselves.
READ_ONNX = ("onnxruntime", "openvino")

#: What the recipe int8 makes for the two engines that run here. OpenVINO gets another one where
#: float operators gain from bfloat16.
ARTIFACTS = {"onnxruntime-fp32", "openvino-fp32", "onnxruntime-int8", "openvino-int8"} | (
    {"openvino-int8-bf16"} if probe(this_machine().features).bf16 else set()
)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the calibration tables of the person who runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class ResidualNet(nn.Module):
    """Conv, BatchNorm, ReLU, a residual Add and a Linear: every pattern the profiles know."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.stem(image)
        x = torch.relu(self.body(x) + x)
        return self.head(x.mean((2, 3)))


def batches(count: int = 4, seed: int = 0) -> Iterator[Feeds]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield {"image": generator.standard_normal((8, *SHAPE)).astype(np.float32)}


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = ResidualNet()
    model.train()
    for feeds in batches(20):  # give BatchNorm real statistics
        model(torch.from_numpy(feeds["image"]))
    return model.eval()


def _workload(network: nn.Module) -> Workload:
    return Workload(
        name="residual",
        model=network,
        example_inputs={"image": torch.zeros(1, *SHAPE)},
        output_names=["logits"],
        calibration=batches,
        labels=["a", "b", "c", "d", "e"],
    )


@pytest.fixture
def workload(network: nn.Module) -> Workload:
    return _workload(network)


@pytest.fixture
def judged(workload: Workload, network: nn.Module) -> Workload:
    """The workload with an evaluate: top-1 agreement with the float model on other data."""

    def evaluate(predict: Callable[[Feeds], dict[str, np.ndarray]]) -> dict[str, float]:
        same = []
        for feeds in batches(4, seed=1):
            with torch.no_grad():
                wanted = network(torch.from_numpy(feeds["image"])).numpy().argmax(1)
            same.append(predict(feeds)["logits"].argmax(1) == wanted)
        return {"agreement": float(np.concatenate(same).mean())}

    workload.evaluate = evaluate
    workload.metric = Metric("agreement", max_drop=0.2)
    return workload


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> Path:
    """A bundle of :func:`network` with fp32 and int8 artifacts; copy it before changing it."""
    path = tmp_path_factory.mktemp("built") / "residual.edge"
    make_bundle(
        _workload(network),
        path,
        recipe=load_recipe("int8"),
        targets=parse_targets([], None),
        timing=Timing(rounds=(10, 20), seconds=1),
    )
    return path


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An int8 bundle whose artifacts read one file of weights; copy it before changing it."""
    from tests.wide import wide_bundle  # which imports this file

    return wide_bundle(tmp_path_factory.mktemp("shared") / "wide.edge", load_recipe("int8"))


@pytest.fixture
def bundle_copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy.edge"))


@pytest.fixture
def bundle(built: Path) -> Bundle:
    return Bundle.open(built)


@pytest.fixture
def onnx_file(built: Path) -> Path:
    """The float ONNX file of :func:`network`."""
    return built / "model.onnx"


@pytest.fixture
def graph(onnx_file: Path) -> ir.Model:
    return ir.load(onnx_file)
