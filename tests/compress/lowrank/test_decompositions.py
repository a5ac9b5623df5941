"""Decompositions as functions on tensors: exact where they can be, never worse with more rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgekit.compress.lowrank import cp as canonical
from edgekit.compress.lowrank import tucker
from edgekit.compress.lowrank.joint import joint
from edgekit.compress.lowrank.svd import decompose, factors
from edgekit.compress.lowrank.weighting import Weighting, input_root

_SIZES = st.integers(2, 12)
_SEEDS = st.integers(0, 2**31)


def _random(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _weightings(seed: int, outputs: int, inputs: int) -> list[Weighting]:
    """White, of inputs with a singular moment, and of rows."""
    vectors = _random(seed + 1, max(1, inputs // 2), inputs)
    rows = _random(seed + 2, outputs).abs() + 0.1
    return [Weighting(), Weighting(root=input_root(vectors.T @ vectors)), Weighting(rows=rows)]


def _product(weight: torch.Tensor, rank: int, weighting: Weighting) -> torch.Tensor:
    left, values = decompose(weight, weighting)
    second, first = factors(weight, left[:, :rank], values[:rank], weighting)
    assert second.shape == (len(weight), rank)
    assert first.shape == (rank, weight.shape[1])
    return second @ first


@given(_SIZES, _SIZES, _SEEDS)
@settings(max_examples=40)
def test_svd_of_full_rank_is_the_weight(outputs: int, inputs: int, seed: int) -> None:
    weight = _random(seed, outputs, inputs)
    for weighting in _weightings(seed, outputs, inputs):
        same = _product(weight, min(outputs, inputs), weighting)
        torch.testing.assert_close(same, weight, rtol=1e-7, atol=1e-7)


@given(_SIZES, _SIZES, _SEEDS)
@settings(max_examples=40)
def test_svd_error_is_what_the_singular_values_say_and_falls_with_rank(
    outputs: int, inputs: int, seed: int
) -> None:
    weight = _random(seed, outputs, inputs)
    for weighting in _weightings(seed, outputs, inputs):
        _, values = decompose(weight, weighting)
        errors = []
        for rank in range(1, min(outputs, inputs) + 1):
            error = weighting.apply(weight - _product(weight, rank, weighting)).norm()
            torch.testing.assert_close(error, values[rank:].norm(), rtol=1e-6, atol=1e-6)
            errors.append(float(error))
        assert errors == sorted(errors, reverse=True)


@given(_SIZES, _SIZES, _SEEDS, st.data())
@settings(max_examples=40)
def test_weighted_svd_has_no_more_weighted_error_than_plain_svd(
    outputs: int, inputs: int, seed: int, data: st.DataObject
) -> None:
    weight = _random(seed, outputs, inputs)
    rank = data.draw(st.integers(1, min(outputs, inputs)))
    plain = _product(weight, rank, Weighting())
    for weighting in _weightings(seed, outputs, inputs)[1:]:
        weighted = _product(weight, rank, weighting)
        error, of_plain = (weighting.apply(weight - one).norm() for one in (weighted, plain))
        assert error <= of_plain + 1e-9


def test_factors_share_the_singular_values() -> None:
    weight = _random(0, 12, 8) * 50
    left, values = decompose(weight, Weighting())
    second, first = factors(weight, left, values, Weighting())
    torch.testing.assert_close(second.norm(dim=0), first.norm(dim=1))


def test_svd_of_a_weight_of_zeros_is_zeros() -> None:
    assert torch.equal(_product(torch.zeros(4, 3), 2, Weighting()), torch.zeros(4, 3).double())


def test_inputs_that_are_always_zero_are_white() -> None:
    torch.testing.assert_close(input_root(torch.zeros(3, 3)), torch.eye(3, dtype=torch.float64))


@given(_SIZES, _SIZES, _SEEDS, st.data())
@settings(max_examples=40)
def test_tucker_finds_a_kernel_of_low_rank(
    outputs: int, inputs: int, seed: int, data: st.DataObject
) -> None:
    ranks = data.draw(st.integers(1, outputs)), data.draw(st.integers(1, inputs))
    core, left, right = (
        _random(seed, *ranks, 3, 3),
        _random(seed + 1, outputs, ranks[0]),
        _random(seed + 2, inputs, ranks[1]),
    )
    kernel = tucker.compose(core, left, right)
    found = tucker.compose(*tucker.tucker2(kernel, ranks))
    assert (found - kernel).norm() <= 1e-4 * kernel.norm()


@given(_SIZES, _SIZES, _SEEDS, st.data())
@settings(max_examples=40)
def test_iteration_makes_tucker_no_worse_than_the_higher_order_svd(
    outputs: int, inputs: int, seed: int, data: st.DataObject
) -> None:
    ranks = data.draw(st.integers(1, outputs)), data.draw(st.integers(1, inputs))
    kernel = _random(seed, outputs, inputs, 3, 3)
    left, right = tucker.hosvd(kernel)
    left, right = left[:, : ranks[0]], right[:, : ranks[1]]
    core = torch.einsum("oihw,op,iq->pqhw", kernel, left, right)
    start = (kernel - tucker.compose(core, left, right)).norm()
    end = (kernel - tucker.compose(*tucker.tucker2(kernel, ranks))).norm()
    assert end <= start + 1e-9


@given(st.integers(3, 10), st.integers(3, 10), st.integers(1, 3), _SEEDS)
@example(outputs=4, inputs=4, rank=3, seed=253852)  # three random starts end in bad places
@settings(max_examples=25)
def test_cp_finds_a_kernel_of_low_rank(outputs: int, inputs: int, rank: int, seed: int) -> None:
    # orthonormal factors: nearly parallel ones make a kernel that is hardly of that rank
    made = tuple(
        torch.linalg.qr(_random(seed + mode, size, rank))[0]
        for mode, size in enumerate((outputs, inputs, 9))
    )
    tensor = torch.einsum("or,ir,sr->ois", *made)
    found = canonical.compose(canonical.cp(tensor, rank))
    assert (found - tensor).norm() <= 1e-4 * tensor.norm()


def test_cp_error_never_rises_with_rank() -> None:
    tensor = _random(3, 8, 6, 9)
    found, errors = None, []
    for rank in (2, 4, 8, 16, 32):
        found = canonical.cp(tensor, rank, found)
        errors.append(float((canonical.compose(found) - tensor).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_cp_gives_the_same_bits_again() -> None:
    tensor = _random(3, 8, 6, 9)
    first, second = (canonical.compose(canonical.cp(tensor, 4)) for _ in range(2))
    assert torch.equal(first, second)


@given(st.integers(2, 8), _SEEDS)
@settings(max_examples=40)
def test_joint_maps_of_full_rank_keep_the_inner_product(size: int, seed: int) -> None:
    first, second = _moment(seed, size), _moment(seed + 1, size)
    a, b, _ = joint(first, second)
    torch.testing.assert_close(a.mT @ b, torch.eye(size, dtype=a.dtype), rtol=1e-6, atol=1e-6)


@given(st.integers(2, 8), _SEEDS, st.data())
@settings(max_examples=40)
def test_joint_maps_lose_what_the_singular_values_say(
    size: int, seed: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, size))
    first, second = _moment(seed, size), _moment(seed + 1, size)
    a, b, values = joint(first, second)
    lost = torch.eye(size, dtype=a.dtype) - a[:rank].mT @ b[:rank]
    error = torch.trace(lost.mT @ first @ lost @ second).clamp(min=0).sqrt()
    torch.testing.assert_close(error, values[rank:].norm(), rtol=1e-4, atol=1e-4)


def _moment(seed: int, size: int) -> torch.Tensor:
    vectors = _random(seed, 3 * size, size)
    return vectors.T @ vectors


@pytest.mark.parametrize("rank", [1, 3])
def test_joint_maps_survive_moments_of_low_rank(rank: int) -> None:
    vectors = _random(0, rank, 5)
    a, b, _ = joint(vectors.T @ vectors, _moment(1, 5))
    kept = vectors @ a[:rank].mT @ b[:rank]
    torch.testing.assert_close(kept, vectors, rtol=1e-3, atol=1e-3)
