from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from edgekit import runtimes
from edgekit.zoo import condconv
from edgekit.zoo._mnist import mnist
from tests.zoo.on_engines import exported


def test_it_is_one_convolution_an_image_with_the_mixed_kernel() -> None:
    torch.manual_seed(0)
    layer = condconv._CondConv(8, 12, stride=2)
    x = torch.randn(5, 8, 14, 14)
    kernels = layer.kernels(x).unflatten(2, (3, 3, 8)).permute(0, 1, 4, 2, 3)
    grouped = functional.conv2d(
        x.reshape(1, -1, 14, 14), kernels.reshape(-1, 8, 3, 3), stride=2, padding=1, groups=5
    )
    torch.testing.assert_close(layer(x), grouped.reshape(5, 12, 7, 7), rtol=1e-4, atol=1e-5)


def test_digits_are_seen_with_kernels_of_their_own() -> None:
    model = condconv.workload().model
    layer = next(one for one in model.modules() if isinstance(one, condconv._CondConv))
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.from_numpy(mnist().test_inputs[:20])
    with torch.no_grad():
        model(images)
        kernels = layer.kernels(seen[0])
    spread = kernels.std(0).mean() / kernels.abs().mean()
    assert spread > 0.02


def test_a_batch_on_onnx_runtime_computes_each_image_as_if_it_were_alone(tmp_path: Path) -> None:
    workload = condconv.workload()
    images = mnist().test_inputs[:7]
    with runtimes.get("onnxruntime").load(exported(workload, tmp_path)) as session:
        together = session.run({"image": images})["logits"]
        alone = [session.run({"image": image[None]})["logits"] for image in images]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-4)
