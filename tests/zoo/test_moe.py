from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from edgekit.exporters.torch_onnx import export_onnx
from torch.nn import functional

from edgekit.zoo import moe
from edgekit.zoo._mnist import mnist


def _images(count: int) -> torch.Tensor:
    return torch.from_numpy(mnist().test_inputs[:count])


def _plainly(experts: moe._Experts, image: torch.Tensor) -> torch.Tensor:
    """The same, token by token; those that an expert has no place for get nothing of it."""
    routing = experts.router(image).softmax(1)
    best = [row.argsort(descending=True)[: moe.CHOSEN].tolist() for row in routing]
    served = torch.zeros_like(image)
    for index, expert in enumerate(experts.experts):
        asking = [token for token in range(len(image)) if index in best[token]]
        asking.sort(key=lambda token: -float(routing[token, index]))
        for token in asking[: moe.CAPACITY]:
            served[token] += routing[token, index] * expert(image[token])
    return served


@torch.no_grad()
@pytest.mark.parametrize("preference", [0.0, 3.0], ids=["balanced", "crowded"])
def test_each_token_gets_what_its_two_experts_make_of_it(preference: float) -> None:
    torch.manual_seed(0)
    experts = moe._Experts(40)
    x = torch.randn(3, 16, 40) + preference * experts.router.weight[0]
    served, routing = experts(x)
    plainly = torch.stack([_plainly(experts, image) for image in x])
    torch.testing.assert_close(served, plainly, rtol=1e-4, atol=1e-5)
    asking = functional.one_hot(routing.topk(moe.CHOSEN, dim=2).indices, 8).sum((1, 2))
    assert bool((asking > moe.CAPACITY).any()) == bool(preference)


@torch.no_grad()
def test_exported_it_sends_each_token_where_pytorch_does(tmp_path: Path) -> None:
    experts = moe.workload().model.get_submodule("sparse.0.experts")
    path = export_onnx(
        experts, {"x": torch.randn(2, 16, 40)}, tmp_path / "moe.onnx",
        dynamic={"x": {0: "batch"}}, output_names=["served", "routing"], opset=20,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for x in (torch.randn(1, 16, 40), torch.randn(64, 16, 40)):
        found = session.run(None, {"x": x.numpy()})
        for one, wanted in zip(found, experts(x), strict=True):
            np.testing.assert_allclose(one, wanted.numpy(), atol=1e-4)


@torch.no_grad()
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch() -> None:
    model = moe.workload().model
    images = _images(6)
    together = model(images)[0]
    alone = torch.cat([model(one[None])[0] for one in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_expert_is_of_use() -> None:
    routing = moe.workload().model(_images(200))[1]
    chosen = routing.topk(moe.CHOSEN, dim=3).indices.transpose(0, 1).flatten(1)
    for block in chosen:
        assert block.bincount(minlength=8).min() > 0.02 * len(block)
    assert moe.balance(routing) < 1.3


def test_balance_is_one_where_all_serve_alike_and_eight_where_one_does() -> None:
    alike = torch.eye(8).roll(1, 0) * 0.5 + torch.eye(8) * 0.5
    assert float(moe.balance(alike[None, None])) == 1.0
    two = torch.zeros(1, 1, 8, 8)
    two[..., 0], two[..., 1] = 0.9, 0.1
    assert float(moe.balance(two)) == 4.0
