"""ncnn on the CPU, for Arm boards above all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from edgekit.runtimes.base import (
    RuntimeStatus,
    Session,
    SessionOptions,
    installed,
    not_inside,
    only_cpu,
)
from edgekit.runtimes.files import check_file, refused

from edgekit.spec import Feeds, Outputs, TensorSpec, from_rows

if TYPE_CHECKING:
    import ncnn

__all__ = ["Ncnn"]


class Ncnn:
    """Runs ``.param`` files, with the ``.bin`` and ``.json`` that edgekit's exporter writes beside.

    Everything is computed in float32, and the samples of a batch one after the other.
    """

    name = "ncnn"

    def status(self) -> RuntimeStatus:
        return installed("ncnn")

    def load(self, artifact: Path, options: SessionOptions = SessionOptions()) -> Session:
        import ncnn  # optional: only when this runtime is used

        only_cpu("ncnn", options)
        not_inside("ncnn", artifact, options)
        weights, specs = artifact.with_suffix(".bin"), artifact.with_suffix(".json")
        for path in (artifact, weights, specs):
            check_file(path, path.suffix if path != artifact else ".param")
        net = ncnn.Net()
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{half}", False)
        # By default threads spin for 20 ms after each layer, on cores that others want: measured on
        # a busy machine, EfficientNet-Lite0 takes a third of the time without.
        net.opt.openmp_blocktime = 0
        if options.threads is not None:
            net.opt.num_threads = options.threads
        try:
            inputs, outputs = map(from_rows, json.loads(specs.read_text()))
            _read(net, artifact, weights)
        except (ValueError, TypeError) as error:
            raise refused(f"ncnn {self.status().version}", artifact, error) from error
        return _NcnnSession(net, inputs, outputs)


def _read(net: ncnn.Net, param: Path, weights: Path) -> None:
    if net.load_param(str(param)):
        raise ValueError("it has a layer that this ncnn has not, or is no such file")
    if net.load_model(str(weights)):
        raise ValueError(f"{weights.name} does not have its weights")


class _NcnnSession(Session):
    """Tensors are ``in0``, ``in1``, ``out0`` in the order of the graph that pnnx converted."""

    def __init__(
        self, net: ncnn.Net, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self._net: ncnn.Net | None = net
        self.inputs, self.outputs = inputs, outputs

    def _run(self, feeds: Feeds) -> Outputs:
        import ncnn

        net = self._net
        if net is None:
            raise RuntimeError("the session is closed")
        arrays = [np.require(feeds[spec.name], requirements="C") for spec in self.inputs]
        count = len(arrays[0])
        made = {x.name: np.empty(x.concrete({}, count), x.dtype) for x in self.outputs}
        for row in range(count):
            extractor = net.create_extractor()
            for index, array in enumerate(arrays):
                extractor.input(f"in{index}", ncnn.Mat(array[row]))
            for index, spec in enumerate(self.outputs):
                failed, result = extractor.extract(f"out{index}")
                if failed:
                    raise RuntimeError(f"ncnn cannot compute output {spec.name!r}")
                made[spec.name][row] = np.asarray(result).reshape(made[spec.name].shape[1:])
        return made

    def _release(self) -> None:
        self._net = None
