"""One more token with the key-value cache of the caller's session, against computing it all anew.

    python benchmarks/kv_cache.py [--length 256] [--blocks 12] [--width 768]

GPT-2 of its smallest size with random weights (speed does not depend on them), batch 1. On each
runtime the two are timed in turns in one process: the last token of a text of that length through
``session.stateful()``, whose cache holds the others, and an export without a cache that reads the
whole text and computes the logits of the last token only, which is all that decoding needs.
Before that both decode 64 tokens, and the largest difference of their logits is told.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from edgekit.exporters import ExportOptions
from edgekit.exporters.prepare import prepare_onnx
from edgekit.exporters.torch_onnx import export_onnx
from edgekit.runtimes import Session, SessionOptions, StatefulSession
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from edgekit import exporters, runtimes
from edgekit.causal_lm import causal_lm
from edgekit.profile.runner import Timed, profile_interleaved
from edgekit.profile.stats import compare, summarize
from edgekit.spec import Array, Feeds, Outputs
from edgekit.workload import Workload

STEPS = 64


class Anew(nn.Module):
    """The logits of the last token, without a cache."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, use_cache=False, logits_to_keep=1).logits


class NextToken(Session):
    """A stateful session at the same place of the same text in every call."""

    def __init__(self, memory: StatefulSession, beginning: Array) -> None:
        self.inputs, self.outputs = memory.inputs, memory.outputs
        self._memory = memory
        memory.reset()
        memory.run({"input_ids": beginning})
        self._state = memory.state

    def _run(self, feeds: Feeds) -> Outputs:
        self._memory.reset(self._state)
        return self._memory.run(feeds)

    def _release(self) -> None:
        self._memory.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    settings = parser.parse_args()
    torch.manual_seed(0)
    config = GPT2Config(n_layer=settings.blocks, n_embd=settings.width)
    model = GPT2LMHeadModel(config).eval()
    tokens = torch.randint(config.vocab_size, (1, settings.length))
    cached = causal_lm(model, tokens[:, :16], name="gpt2")
    plain = Workload(
        name="anew",
        model=Anew(model),
        example_inputs={"input_ids": tokens[:, :16]},
        output_names=["logits"],
        dynamic_shapes={"input_ids": {0: "batch", 1: "sequence"}},
    )
    for engine in ("onnxruntime", "openvino"):
        with tempfile.TemporaryDirectory() as scratch:
            memory = loaded(cached, engine, Path(scratch)).stateful()
            anew = loaded(plain, engine, Path(scratch))
            report(engine, memory, anew, tokens.numpy())
            anew.close()
            memory.close()


def loaded(workload: Workload, engine: str, folder: Path) -> Session:
    assert isinstance(workload.model, nn.Module)
    exported = export_onnx(
        workload.model,
        {name: torch.as_tensor(value) for name, value in workload.example_inputs.items()},
        folder / f"{workload.name}-exported.onnx",
        dynamic=workload.dynamic,
        output_names=workload.output_names,
        opset=20,
    )
    graph = prepare_onnx(exported, folder / f"{workload.name}.onnx", state=workload.state)
    files = exporters.get(engine).export(
        graph, folder / f"{workload.name}-{engine}", ExportOptions(None, {})
    )
    return runtimes.require(engine).load(files[0], SessionOptions(threads=2))


def report(engine: str, memory: StatefulSession, anew: Session, tokens: Array) -> None:
    length = tokens.shape[1]
    entries = [
        Timed("anew", engine, anew, {"input_ids": tokens}),
        Timed("cached", engine, NextToken(memory, tokens[:, :-1]), {"input_ids": tokens[:, -1:]}),
    ]
    slow, fast = profile_interleaved(
        entries, {}, threads=2, min_rounds=10, max_rounds=40, max_seconds=60, warmup=2
    )
    found = compare(slow, fast)
    print(
        f"{engine}, token {length}: {found.ratio:.2f}x as fast with the cache "
        f"({found.low:.2f} to {found.high:.2f}), {summarize(fast).p50:.1f} ms; largest difference "
        f"of logits in {STEPS} steps {difference(memory, anew, tokens[:, :8]):.1e}"
    )


def difference(memory: StatefulSession, anew: Session, tokens: Array) -> float:
    """Decode greedily in both ways; the largest difference of logits at any step."""
    memory.reset()
    fed, largest = tokens, 0.0
    for _ in range(STEPS):
        got = memory.run({"input_ids": fed})["logits"][:, -1]
        wanted = anew.run({"input_ids": tokens})["logits"][:, -1]
        largest = max(largest, float(np.abs(got - wanted).max()))
        fed = got.argmax(-1, keepdims=True)
        tokens = np.concatenate([tokens, fed], axis=1)
    return largest


if __name__ == "__main__":
    main()
