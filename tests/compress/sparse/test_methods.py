"""The methods: what they keep, and what that does to the layer's output."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit import zoo
from edgekit.compress.sparse.base import Evidence, Method
from edgekit.compress.sparse.inputs import collect
from edgekit.compress.sparse.layers import choose_layers, to_matrix
from edgekit.compress.sparse.magnitude import Magnitude
from edgekit.compress.sparse.masks import Pattern, Sparsity, dropped
from edgekit.compress.sparse.movement import Movement
from edgekit.compress.sparse.sparsegpt import SparseGpt
from edgekit.compress.sparse.wanda import Wanda

BLOCKS = ("encoder.encoder.layer.0.", "encoder.encoder.layer.1.")
TWO_OF_FOUR = Pattern(2, 4)


def _moment(columns: int, rows: int = 500, groups: int = 1) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(columns, columns, generator=generator)
    x = torch.randn(groups, rows, columns, generator=generator) @ mixing
    return Evidence(moment=x.mT @ x, squares=x.square().sum(1), rows=rows)


def _weight(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _error(weight: torch.Tensor, made: torch.Tensor, moment: torch.Tensor) -> float:
    """``||X W - X W'||^2``."""
    error = (weight - made).double()
    return float((error @ moment.double() * error).sum())


def _evidence(name: str, sparsity: Sparsity) -> list[tuple[str, torch.Tensor, Evidence, Evidence]]:
    """Weights of a zoo model with the moments of one half of its data and of the other."""
    workload = zoo.load(name)
    assert isinstance(workload.model, nn.Module)
    pattern = sparsity if isinstance(sparsity, Pattern) else None
    layers = choose_layers(workload.model, (), pattern).layers
    if name == "minilm":
        layers = {key: layer for key, layer in layers.items() if key.startswith(BLOCKS)}
        assert len(layers) == 12
    feeds = list(workload.feeds())
    halves = feeds[: len(feeds) // 2], feeds[len(feeds) // 2 :]
    inputs = list(workload.example_inputs)
    seen, unseen = (
        collect(workload.model, layers, half, inputs, samples=100, moments=True) for half in halves
    )
    return [
        (key, to_matrix(layer, layer.weight.detach()), seen[key], unseen[key])
        for key, layer in layers.items()
    ]


@pytest.mark.parametrize("sparsity", [0.5, TWO_OF_FOUR], ids=str)
@pytest.mark.parametrize("name", ["mlp-digits", "resnet8-mnist", "minilm"])
def test_sparsegpt_beats_magnitude_on_every_layer(name: str, sparsity: Sparsity) -> None:
    lost = []
    for key, weight, seen, unseen in _evidence(name, sparsity):
        ours = SparseGpt().sparsify(weight, seen, sparsity)
        theirs = Magnitude().sparsify(weight, seen, sparsity)
        assert int((ours == 0).sum()) >= 0.499 * weight.numel() - ours.shape[-1]
        for data in (seen, unseen):
            assert data.moment is not None
            if _error(weight, ours, data.moment) >= _error(weight, theirs, data.moment):
                lost.append(key)
    assert lost == []


@pytest.mark.parametrize(
    "method", [Magnitude(), Wanda(), SparseGpt()], ids=lambda m: type(m).__name__
)
@pytest.mark.parametrize("pattern", [TWO_OF_FOUR, Pattern(4, 8)], ids=str)
def test_patterns_are_kept(method: Method, pattern: Pattern) -> None:
    made = method.sparsify(_weight(2, 6, 264), _moment(264, groups=2), pattern)
    assert bool(((made.reshape(-1, pattern.of) != 0).sum(1) == pattern.keep).all())


def test_sparsegpt_has_the_ratio_in_every_block_of_columns() -> None:
    made = SparseGpt().sparsify(_weight(1, 6, 150), _moment(150), 0.3)
    for block in made.split(128, dim=-1):
        assert int((block == 0).sum()) == dropped(0.3, block.numel())


def test_wanda_has_the_ratio_in_every_row_and_weighs_inputs() -> None:
    squares = torch.tensor([[1.0, 100.0, 1.0, 1.0]])
    weight = torch.tensor([[[1.0, 0.5, 0.9, 0.8], [2.0, 0.01, 0.3, 0.4]]])
    made = Wanda().sparsify(weight, Evidence(squares=squares), 0.5)
    assert made.tolist() == torch.tensor([[[1.0, 0.5, 0, 0], [2.0, 0, 0, 0.4]]]).tolist()


def test_movement_drops_what_training_moves_to_zero() -> None:
    weight = torch.tensor([[[5.0, 0.1]]])
    made = Movement().sparsify(weight, Evidence(movement=torch.tensor([[[-1.0, 1.0]]])), 0.5)
    assert made.tolist() == torch.tensor([[[0.0, 0.1]]]).tolist()


def test_sparsegpt_scores_by_the_error_that_dropping_costs() -> None:
    """On independent inputs that is ``w^2 * E[x^2]``, as for Wanda."""
    moment = torch.diag(torch.tensor([1.0, 4.0, 9.0]))[None]
    score = SparseGpt().score(torch.ones(1, 1, 3), Evidence(moment=moment, rows=10**9))
    torch.testing.assert_close(
        score / score[..., :1], torch.tensor([[[1.0, 4.0, 9.0]]]), rtol=0.2, atol=0
    )


def test_an_input_that_is_always_zero_loses_its_weights_and_a_dead_group_goes_by_magnitude() -> (
    None
):
    evidence = _moment(8, groups=2)
    assert evidence.moment is not None
    evidence.moment[0, 3] = evidence.moment[0, :, 3] = 0.0
    evidence.moment[1] = 0.0
    weight = _weight(2, 4, 8)
    made = SparseGpt().sparsify(weight, evidence, 0.5)
    assert bool(torch.isfinite(made).all())
    assert torch.equal(made[1:], Magnitude().sparsify(weight[1:], evidence, 0.5))
    assert not bool(made[0, :, 3].any())


def test_the_weight_that_was_given_stays_as_it_is() -> None:
    weight = _weight(1, 4, 8)
    for method in (Magnitude(), Wanda(), SparseGpt()):
        method.sparsify(weight, _moment(8), 0.5)
    assert torch.equal(weight, _weight(1, 4, 8))
