"""The placement profiles: what each engine runs in int8, as one table an engine.

Adding an engine is adding a table here. What a table does not name stays float; ``stays_float``
says of the operators that people ask about why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

__all__ = ["PROFILES", "OpRule", "PlacementProfile"]


@dataclass(frozen=True, slots=True)
class OpRule:
    """How one operator is quantized.

    Attributes:
        activations: input positions that are quantized when a computed tensor is there.
        weight: input position of a constant that is stored as per-channel int8.
        bias: input position of a constant that is added to the accumulator.
        output: whether the result (after a fused activation) is quantized too.
        joins: quantize only when every activation input already comes out of a quantized
            operator; alone it would not pay for its own Q/DQ pairs.
        shares_scale: its inputs and its result have one scale, so that nothing is rounded again.
    """

    activations: tuple[int, ...] | Literal["all"]
    weight: int | None = None
    bias: int | None = None
    output: bool = False
    joins: bool = False
    shares_scale: bool = False


@dataclass(frozen=True, slots=True)
class PlacementProfile:
    """The patterns one engine turns into int8 kernels.

    Attributes:
        name: the runtime it is for.
        ops: a rule for each operator that is quantized; the rest stays float.
        activation: number format of activations: ``asymmetric`` is uint8 with a zero point,
            ``symmetric`` is int8 without one, ``float8`` is E4M3.
        fused: activation functions (and patterns, see :mod:`.patterns`) that the engine merges
            into the operator before them, so that no Q/DQ pair may stand between the two.
            BatchNormalization is folded into its convolution before any profile is asked.
        transparent: operators that only move data: the tensor has one scale before and after.
        stays_float: operators that stay float, with the reason.
        bias: ``int32`` in units of the accumulator, or left ``float``.
        weight_only: the form of compressed weights that the engine decompresses itself:
            ``matmul-nbits`` (ONNX Runtime's contrib operator) or ``dequantize`` (a blocked
            DequantizeLinear that is folded into the kernel).
        dynamic: how activations are quantized while it runs: by ``operators`` of the graph, by the
            ``engine`` itself where weights are compressed, or not at all.
        half_form: how the engine is told to compute in half precision: ``typed`` by the element
            types of the graph, ``hint`` by a property of the artifact, ``storage`` not at all:
            weights are stored in half and widened while the model loads.
        half: half precisions that the engine takes.
        fp8: whether it has kernels for float8 matrix products.
    """

    name: str
    ops: Mapping[str, OpRule]
    activation: Literal["asymmetric", "symmetric", "float8"]
    fused: frozenset[str]
    transparent: frozenset[str]
    stays_float: Mapping[str, str]
    bias: Literal["int32", "float"]
    weight_only: Literal["matmul-nbits", "dequantize"]
    dynamic: Literal["operators", "engine"] | None
    half_form: Literal["typed", "hint", "storage"]
    half: tuple[Literal["fp16", "bf16"], ...]
    fp8: bool = False


_STAYS_FLOAT = MappingProxyType(
    {
        "LayerNormalization": "its variance needs more than 8 bits, and it is memory-bound anyway",
        "Softmax": "exp of a coarse step loses the small probabilities",
        "Gelu": "no engine has an integer kernel; it runs on the accumulator before the next Q",
        "MatMul of two activations": "attention scores: measured, int8 gains no time at the "
        "sequence lengths of an edge device and costs accuracy",
        "GlobalAveragePool": "on OpenVINO one more rounding, and measured 3 % slower",
        "Gather": "an embedding lookup is a copy; weight-only int8 makes it smaller",
        "ConvTranspose": "ONNX Runtime has no integer kernel; OpenVINO takes its own without a "
        "zero point only, and measured on AVX2 it is slower than the float one",
        "LSTM, GRU, RNN": "no engine has a static int8 kernel; see dynamic-int8",
    }
)
_MOVES = frozenset({"Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

#: ONNX Runtime fuses DQ -> op -> Q into one integer kernel only when the output is quantized and
#: the bias is int32; a MatMul without an output Q becomes MatMulIntegerToFloat. uint8 activations
#: with int8 weights (U8S8) is what MLAS has kernels for on x86; it is exact on VNNI, and elsewhere
#: needs the reduced weight range of :mod:`edgekit.numerics`. On Arm the same graph runs as U8S8
#: with dot products. Relu and Clip vanish into the rounding of the Q behind them; SiLU, HardSwish
#: and GELU are float kernels between DQ and Q.
_ONNXRUNTIME = PlacementProfile(
    name="onnxruntime",
    ops=MappingProxyType(
        {
            "Conv": OpRule(activations=(0,), weight=1, bias=2, output=True),
            "Gemm": OpRule(activations=(0,), weight=1, bias=2),
            "MatMul": OpRule(activations=(0,), weight=1),
            "Add": OpRule(activations=(0, 1), output=True, joins=True),
            "Concat": OpRule(activations="all", output=True, joins=True, shares_scale=True),
            "GlobalAveragePool": OpRule(activations=(0,), output=True, joins=True),
        }
    ),
    activation="asymmetric",
    fused=frozenset({"Relu", "Clip"}),
    transparent=_MOVES,
    stays_float=_STAYS_FLOAT,
    bias="int32",
    weight_only="matmul-nbits",
    dynamic="operators",
    half_form="storage",
    half=("fp16",),
)

#: The same kernels, in a build that holds no others.
_ONNXRUNTIME_MINIMAL = replace(_ONNXRUNTIME, name="onnxruntime-minimal")

#: OpenVINO's low-precision transformations propagate scales through the graph themselves, and an
#: operator with int8 inputs may give a float output at no cost: a Q stands only before an
#: operator. Zero points cost it nothing either (measured: EfficientNet-Lite0 and MiniLM, same
#: latency within 3 %) and raise MiniLM's cosine to fp32. Its CPU, GPU and NPU plugins share these
#: transformations; oneDNN and the GPU kernels run all the named activations as post-operations.
_OPENVINO = PlacementProfile(
    name="openvino",
    ops=MappingProxyType(
        {
            "Conv": OpRule(activations=(0,), weight=1, bias=2),
            "Gemm": OpRule(activations=(0,), weight=1, bias=2),
            "MatMul": OpRule(activations=(0,), weight=1),
            "Add": OpRule(activations=(0, 1), joins=True),
            "Concat": OpRule(activations="all", joins=True, shares_scale=True),
        }
    ),
    activation="asymmetric",
    fused=frozenset(
        {"Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "HardSwish", "SiLU", "Gelu", "PRelu"}
    ),
    transparent=_MOVES,
    stays_float=_STAYS_FLOAT,
    bias="float",
    weight_only="dequantize",
    dynamic="engine",
    half_form="hint",
    half=("bf16", "fp16"),
)

#: TensorRT reads explicit quantization: symmetric int8 only, bias in float, and the residual
#: input of an Add quantized, so that the sum is fused into the convolution before it.
_TENSORRT = replace(
    _OPENVINO,
    name="tensorrt-rtx",
    activation="symmetric",
    fused=frozenset({"Relu", "Clip", "Sigmoid", "SiLU"}),
    dynamic=None,
    half_form="typed",
    half=("fp16", "bf16"),
    fp8=True,
)

PROFILES: Mapping[str, PlacementProfile] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            _ONNXRUNTIME,
            _ONNXRUNTIME_MINIMAL,
            _OPENVINO,
            _TENSORRT,
            replace(_TENSORRT, name="tensorrt"),
        )
    }
)
