from __future__ import annotations

import pytest
import torch
from edgekit.runtimes.timer import Operator, Tensor
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from edgekit.profile.layers.work import flops


def _flops(
    op: str, inputs: list[tuple[int, ...]], out: tuple[int, ...], **attributes: int
) -> int | None:
    names = [f"i{index}" for index in range(len(inputs))]
    tensors = {name: Tensor("float32", shape) for name, shape in zip(names, inputs, strict=True)}
    tensors["y"] = Tensor("float32", out)
    return flops(Operator("n", op, tuple(names), ("y",), attributes), tensors)


SIZES = st.integers(1, 6)


@given(batch=SIZES, groups=st.integers(1, 3), into=SIZES, out=SIZES, side=st.integers(3, 9))
def test_convolutions_agree_with_the_counter_of_torch(
    batch: int, groups: int, into: int, out: int, side: int
) -> None:
    conv = torch.nn.Conv2d(into * groups, out * groups, 3, padding=1, groups=groups)
    x = torch.zeros(batch, into * groups, side, side)
    with FlopCounterMode(display=False) as counter:
        y = conv(x)
    weight = tuple(conv.weight.shape)
    shapes = [tuple(x.shape), weight]
    assert _flops("Conv", shapes, tuple(y.shape)) == counter.get_total_flops()
    grouped = (groups, out, *weight[1:])
    assert _flops("GroupConvolution", [shapes[0], grouped], tuple(y.shape)) == (
        counter.get_total_flops()
    )


@given(batch=SIZES, into=SIZES, out=SIZES, side=SIZES)
def test_transposed_convolutions_agree_with_the_counter_of_torch(
    batch: int, into: int, out: int, side: int
) -> None:
    conv = torch.nn.ConvTranspose2d(into, out, 3, stride=2)
    x = torch.zeros(batch, into, side, side)
    with FlopCounterMode(display=False) as counter:
        y = conv(x)
    shapes = [tuple(x.shape), tuple(conv.weight.shape)]
    assert _flops("ConvTranspose", shapes, tuple(y.shape)) == counter.get_total_flops()


@given(rows=SIZES, inner=SIZES, columns=SIZES)
def test_products_take_two_operations_for_each_pair(rows: int, inner: int, columns: int) -> None:
    wanted = 2 * rows * inner * columns
    assert _flops("MatMul", [(rows, inner), (inner, columns)], (rows, columns)) == wanted
    turned = [(inner, rows), (columns, inner)]
    assert _flops("Gemm", turned, (rows, columns), transA=1, transB=1) == wanted
    assert _flops("MatMul", turned, (rows, columns), transpose_a=1) == wanted


def test_attention_takes_two_products() -> None:
    shapes = [(2, 4, 10, 8)] * 3
    assert _flops("ScaledDotProductAttention", shapes, (2, 4, 10, 8)) == 2 * 2 * 2 * 4 * 10 * 10 * 8
    flat = [(2, 10, 32)] * 3
    assert _flops("MultiHeadAttention", flat, (2, 10, 32)) == 2 * 2 * 2 * 4 * 10 * 10 * 8


def test_recurrent_layers_meet_both_matrices_at_each_step() -> None:
    onnx = [(5, 2, 3), (1, 16, 3), (1, 16, 4)]
    assert _flops("LSTM", onnx, (5, 1, 2, 4)) == 2 * 5 * 2 * (16 * 3 + 16 * 4)
    openvino = [(2, 5, 3), (2, 1, 4), (2, 1, 4), (2,), (1, 16, 3), (1, 16, 4), (1, 16)]
    assert _flops("LSTMSequence", openvino, (2, 1, 5, 4)) == 2 * 5 * 2 * (16 * 3 + 16 * 4)


@pytest.mark.parametrize("op", ["Relu", "Add", "QuantizeLinear"])
def test_elementwise_operators_take_one_an_element(op: str) -> None:
    assert _flops(op, [(2, 3)], (2, 3)) == 6


def test_moving_data_is_no_work_and_reducing_it_reads_all() -> None:
    assert _flops("Transpose", [(2, 3)], (3, 2)) == 0
    assert _flops("ReduceMean", [(2, 30)], (2, 1)) == 60


def test_what_is_not_known_is_said_so() -> None:
    unknown = {"x": Tensor("float32", None), "y": Tensor("float32", None)}
    assert flops(Operator("n", "MatMul", ("x", "x"), ("y",)), unknown) is None
    assert flops(Operator("n", "Relu", ("x",), ("y",)), unknown) is None
    assert _flops("Loop", [(2,)], (2,)) is None
    assert flops(Operator("n", "Relu", ("x",), ("z",)), unknown) is None
