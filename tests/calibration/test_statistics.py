from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from edgekit.calibration import ChannelMean, ChannelRange, Gram, PatchGram, RowSample
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.helper import make_node
from onnx.reference import ReferenceEvaluator

ROUNDING = {"rtol": 1e-4, "atol": 1e-3}


def _stream(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_channel_ranges_are_those_of_the_slices(axis: int) -> None:
    batches = _stream(0, (4, 4, 4), (4, 4, 4))
    statistic = ChannelRange(axis)
    for batch in batches:
        statistic.update(batch)
    rows = np.concatenate([np.moveaxis(b, axis, 0).reshape(4, -1) for b in batches], axis=1)
    np.testing.assert_array_equal(statistic.low, rows.min(axis=1))
    np.testing.assert_array_equal(statistic.high, rows.max(axis=1))
    np.testing.assert_array_equal(statistic.largest, np.abs(rows).max(axis=1))


@pytest.mark.parametrize("axis", [1, -1])
def test_channel_means_weigh_every_row_of_ragged_batches_alike(axis: int) -> None:
    batches = _stream(1, (5, 3, 3), (1, 3, 3), (2, 3, 3))
    statistic = ChannelMean(axis)
    for batch in batches:
        statistic.update(batch)
    rows = np.concatenate([np.moveaxis(b, axis, 0).reshape(3, -1) for b in batches], axis=1)
    np.testing.assert_allclose(statistic.mean, rows.mean(axis=1, dtype=np.float64), rtol=1e-5)


def test_a_mean_of_many_large_values_keeps_its_digits() -> None:
    statistic = ChannelMean(-1)
    for _ in range(50):
        statistic.update(np.full((1000, 2), 1000.1, np.float32))
    assert statistic.mean[0] == pytest.approx(float(np.float32(1000.1)), rel=1e-5)


@given(st.integers(0, 1000), st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_the_gram_matrix_is_that_of_all_rows_together(seed: int, lengths: list[int]) -> None:
    batches = _stream(seed, *((n, 2, 5) for n in lengths))
    statistic = Gram(5)
    for batch in batches:
        statistic.update(batch)
    rows = np.concatenate([b.reshape(-1, 5) for b in batches]).astype(np.float64)
    np.testing.assert_allclose(statistic.matrix, rows.T @ rows, **ROUNDING)
    np.testing.assert_allclose(statistic.magnitude, np.abs(rows).sum(axis=0), **ROUNDING)
    assert statistic.rows == len(rows)


def _patches(
    image: np.ndarray,
    kernel: list[int],
    strides: list[int],
    pads: list[int],
    dilations: list[int],
) -> np.ndarray:
    """Every patch a convolution sees, ``(positions, channels, *kernel)``, by plain loops."""
    rank = len(kernel)
    padded = np.pad(image, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    counts = [
        (size - r) // s + 1 for size, r, s in zip(padded.shape[2:], reach, strides, strict=True)
    ]
    found = []
    for sample in padded:
        for place in product(*map(range, counts)):
            window = tuple(
                slice(p * s, p * s + r, d)
                for p, s, r, d in zip(place, strides, reach, dilations, strict=True)
            )
            found.append(sample[(slice(None), *window)])
    return np.array(found, np.float64)


@settings(max_examples=60)
@given(st.data())
def test_the_patch_gram_is_that_of_the_patches_a_convolution_sees(data: st.DataObject) -> None:
    rank = data.draw(st.sampled_from([1, 2]))
    each = {"min_size": rank, "max_size": rank}
    kernel = data.draw(st.lists(st.integers(1, 3), **each))
    strides = data.draw(st.lists(st.integers(1, 3), **each))
    dilations = data.draw(st.lists(st.integers(1, 2), **each))
    pads = data.draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    groups = data.draw(st.sampled_from([1, 2, 4]))
    batches = _stream(0, (2, 4, *[7, 6][:rank]), (1, 4, *[7, 6][:rank]))
    statistic = PatchGram(kernel, strides, pads, dilations, groups)
    for batch in batches:
        statistic.update(batch)
    patches = np.concatenate([_patches(b, kernel, strides, pads, dilations) for b in batches])
    grouped = patches.reshape(len(patches), groups, -1)
    expected = np.einsum("pgi,pgj->gij", grouped, grouped)
    assert statistic.matrix is not None
    np.testing.assert_allclose(statistic.matrix, expected, **ROUNDING)


@pytest.mark.parametrize("size", [3, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("same", ["SAME_UPPER", "SAME_LOWER"])
def test_automatic_padding_is_that_of_the_onnx_reference(size: int, stride: int, same: str) -> None:
    (image,) = _stream(0, (1, 1, size))
    conv = make_node("Conv", ["x", "w"], ["y"], auto_pad=same, strides=[stride])
    patches = np.stack([
        ReferenceEvaluator(conv).run(None, {"x": image, "w": tap[None, None]})[0][0, 0]
        for tap in np.eye(4, dtype=np.float32)
    ])  # fmt: skip
    statistic = PatchGram([4], [stride], same, [1], 1)
    statistic.update(image)
    np.testing.assert_allclose(statistic.matrix[0], patches @ patches.T, rtol=1e-5, atol=1e-6)


def test_the_patch_gram_looks_at_a_bounded_part_of_a_large_batch() -> None:
    (image,) = _stream(0, (2, 1, 64, 64))
    whole = PatchGram([1, 1], [1, 1], [0] * 4, [1, 1], 1, per_batch=2 * 64 * 64)
    part = PatchGram([1, 1], [1, 1], [0] * 4, [1, 1], 1, per_batch=500)
    for statistic in (whole, part):
        statistic.update(np.ones_like(image))
    assert whole.matrix is not None
    assert part.matrix is not None
    assert whole.matrix[0, 0, 0] == 2 * 64 * 64
    assert 250 <= part.matrix[0, 0, 0] <= 500


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.sampled_from([2, 16, 64]))
def test_the_row_sample_is_evenly_spread_and_bounded(lengths: list[int], limit: int) -> None:
    sample = RowSample(limit)
    start = 0
    for length in lengths:
        sample.update(np.arange(start, start + length, dtype=np.float32)[:, None])
        start += length
    kept = sample.rows[:, 0]
    assert len(kept) <= limit
    if start >= limit:
        assert len(kept) >= limit / 2
    gaps = set(np.diff(kept))
    assert len(gaps) <= 1, "rows are not equally far apart"
    assert kept[0] == 0
    # nor is the end of the stream left out
    assert start - kept[-1] <= (gaps.pop() if gaps else start)


def test_an_empty_batch_leaves_a_statistic_without_values() -> None:
    for statistic in (ChannelRange(-1), ChannelMean(-1), Gram(3), RowSample()):
        statistic.update(np.zeros((0, 3), np.float32))
        assert statistic.count == 0
