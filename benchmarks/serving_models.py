"""The models that ``serving.py`` serves: bundles for edgekit, the ONNX files in them for all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import Timing, make_bundle
from edgekit.spec import Array
from edgekit.targets import parse_targets
from edgekit.workload import Workload

__all__ = ["Served", "bundled", "convolutions", "dense", "session", "tiny"]


@dataclass(frozen=True)
class Served:
    """A model to serve.

    Attributes:
        name: its name in URLs.
        bundle: for edgekit.
        onnx: the artifact of ONNX Runtime in it, which every other server gets.
        x: one input, float32, batch 1.
        y: what the artifact makes of it.
        output: name of the output.
    """

    name: str
    bundle: Path
    onnx: Path
    x: Array
    y: Array
    output: str

    @property
    def input(self) -> str:
        return session(self.onnx).get_inputs()[0].name


def session(path: Path) -> ort.InferenceSession:
    """The engine alone, with the thread settings of every server here."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def tiny(seed: int = 0) -> Workload:
    """One dense layer on 12 KiB of float32."""
    torch.manual_seed(seed)
    return Workload(
        name="tiny",
        model=nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)).eval(),
        example_inputs={"image": torch.zeros(1, 3, 32, 32)},
        output_names=["scores"],
    )


def dense() -> Workload:
    """Four dense layers, 16 MB: one sample takes nearly as long as many, so batches gain."""
    torch.manual_seed(0)
    layers = [part for _ in range(4) for part in (nn.Linear(1024, 1024), nn.ReLU())]
    return Workload(
        name="dense",
        model=nn.Sequential(*layers, nn.Linear(1024, 10)).eval(),
        example_inputs={"features": torch.zeros(1, 1024)},
        output_names=["scores"],
    )


def convolutions() -> Workload:
    """Some milliseconds of computing on 4 KiB: the engine is what is short, not the server."""
    torch.manual_seed(0)
    layers = [part for _ in range(4) for part in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU())]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return Workload(
        name="convolutions",
        model=nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), *layers, *head).eval(),
        example_inputs={"image": torch.zeros(1, 1, 32, 32)},
        output_names=["scores"],
    )


def bundled(workload: Workload, folder: Path, recipe: str = "fp32") -> Served:
    """Export a model for ONNX Runtime: as it is, float32, or compressed by a recipe."""
    bundle = make_bundle(
        workload,
        folder / f"{workload.name}.edge",
        recipe=load_recipe(recipe),
        targets=parse_targets(["onnxruntime"], None),
        timing=None if recipe == "fp32" else Timing(),
    )
    onnx = bundle.file(bundle.selected("onnxruntime"))
    spec = bundle.manifest.inputs[0].tensor
    x = np.random.default_rng(0).standard_normal(spec.concrete({})).astype(np.float32)
    (y,) = session(onnx).run(None, {spec.name: x})
    return Served(workload.name, bundle.path, onnx, x, y, bundle.manifest.outputs[0].tensor.name)
