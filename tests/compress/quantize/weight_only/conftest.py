"""Two language models with real sentences: a trained encoder and a GPT-2 of random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from edgekit.calibration import Calibrator
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from torch import nn

from edgekit.compress.base import GraphContext
from edgekit.compress.quantize.profiles import PROFILES
from edgekit.numerics import parse_target
from edgekit.quiet import quiet
from edgekit.spec import Array, Feeds
from edgekit.zoo import minilm


@dataclass(frozen=True)
class LanguageModel:
    """An ONNX file with sentences to calibrate on and others to judge by."""

    path: Path
    seen: list[Feeds]
    unseen: list[Feeds]

    @property
    def calibrator(self) -> Calibrator:
        return Calibrator(lambda: self.seen)


def _sentences() -> tuple[list[Feeds], list[Feeds]]:
    tokenizer = minilm.AutoTokenizer.from_pretrained(minilm._FOLDER, local_files_only=True)
    groups = [group.splitlines() for group in minilm._SENTENCES.read_text().strip().split("\n\n")]
    seen, unseen = (list(minilm._encode(tokenizer, groups[half::2])) for half in (0, 1))
    return seen, unseen


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """``zoo:minilm``."""
    return _exported(minilm.workload().model, tmp_path_factory.mktemp("minilm"), "embedding")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """GPT-2's architecture, one table for embedding and head."""
    return _exported(_decoder(), tmp_path_factory.mktemp("gpt2"), "logits")


def _exported(model: nn.Module, folder: Path, output: str) -> LanguageModel:
    names = ("input_ids", "attention_mask")
    exported = export_onnx(
        model,
        {name: torch.ones(2, 16, dtype=torch.int64) for name in names},
        folder / "exported.onnx",
        dynamic={name: {0: "batch", 1: "sequence"} for name in names},
        output_names=[output],
        opset=21,
    )
    return LanguageModel(prepare_onnx(exported, folder / "model.onnx"), *_sentences())


def _decoder() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = GPT2Config(
                vocab_size=30522, n_positions=64, n_embd=128, n_layer=2, n_head=4,
                bos_token_id=None, eos_token_id=None,
            )  # fmt: skip
            self.model = GPT2LMHeadModel(config)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False
            ).logits
            return logits

    torch.manual_seed(0)
    with quiet():
        return Decoder().eval()


@pytest.fixture
def context() -> Callable[..., GraphContext]:
    """Make the context of a pass for one engine."""

    def make(
        engine: str = "onnxruntime", calibrator: Calibrator | None = None, target: str = "x86-vnni"
    ) -> GraphContext:
        unused = Calibrator(lambda: iter(()))
        return GraphContext(
            PROFILES[engine], (PROFILES[engine],), calibrator or unused, parse_target(target)
        )

    return make


def linear_model(
    weight: Array, op: str = "MatMul", *, opset: int = 21, bias: Array | None = None
) -> ir.Model:
    """``y = x W (+ b)``; Gemm stores the weight as ``(outputs, inputs)``."""
    info, dtype = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    inputs, outputs = weight.shape
    stored = np.ascontiguousarray(weight.T) if op == "Gemm" else weight
    constants = {"w": stored} | ({} if bias is None else {"b": bias})
    attributes = {"transB": 1} if op == "Gemm" else {}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x", *constants], ["y"], name="linear", **attributes)],
        "g",
        [info("x", dtype, ["rows", inputs])],
        [info("y", dtype, ["rows", outputs])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", opset)]
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def rows(count: int, channels: int, seed: int = 0) -> Iterator[Feeds]:
    """Batches for :func:`linear_model`, with correlated channels and some loud ones, as real."""
    generator = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((channels, channels)).astype(np.float32)
    mixing *= np.geomspace(1.0, 0.01, channels, dtype=np.float32)[:, None]
    mixing[:, ::16] *= 20.0
    for _ in range(count):
        yield {"x": generator.standard_normal((64, channels)).astype(np.float32) @ mixing}
