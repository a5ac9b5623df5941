"""Every architecture shrinks by half, runs, trains, and exports to the same outputs."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn
from torch.utils._pytree import tree_leaves

from edgekit import zoo
from edgekit.compress.prune.find import find_groups
from edgekit.compress.prune.surgery import keep
from edgekit.errors import CompressError
from tests.compress.prune import small_nets  # noqa: F401, registers its own
from tests.compress.prune.architectures import MODELS, WHOLE


def _outputs(model: nn.Module, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [one for one in tree_leaves(model(*inputs.values())) if isinstance(one, torch.Tensor)]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_half_of_every_group_can_go(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = MODELS[name]()
    model.eval()
    shapes = [one.shape for one in _outputs(model, inputs)]
    before = sum(one.numel() for one in model.parameters())
    groups = find_groups(model, inputs)
    keep(model, groups, {one.name: range(1, one.size, 2) for one in groups})
    after = sum(one.numel() for one in model.parameters())
    assert after < 0.9 * before

    outputs = _outputs(model, inputs)
    assert [one.shape for one in outputs] == shapes
    sum((one.float() ** 2).sum() for one in outputs).backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    assert gradients
    assert all(torch.isfinite(one).all() for one in [*outputs, *gradients])

    names = [f"out{place}" for place in range(len(outputs))]
    path = export_onnx(model, inputs, tmp_path / "m.onnx", dynamic={}, output_names=names, opset=18)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {key: value.numpy() for key, value in inputs.items()}
    feeds = {one.name: feeds[one.name] for one in session.get_inputs()}
    for mine, theirs in zip(outputs, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(theirs, mine.detach().numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", WHOLE)
def test_a_table_whose_columns_are_the_output_is_left_whole(name: str) -> None:
    workload = zoo.load(name)
    with pytest.raises(CompressError, match="nothing can be pruned: output 0"):
        find_groups(workload.model, dict(workload.example_inputs))
