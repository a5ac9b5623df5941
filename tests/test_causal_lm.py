from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedModel,
)

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.causal_lm import causal_lm
from edgekit.compress.recipe import load_recipe
from edgekit.errors import WorkloadError
from edgekit.modelref import resolve
from edgekit.pipeline import make_bundle
from edgekit.profile.bundle import profile_bundle
from edgekit.targets import parse_targets
from edgekit.verify import verify_bundle

ENGINES = ("onnxruntime", "openvino")
VOCABULARY = 400


def _gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=96, n_embd=32, n_layer=2, n_head=4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def _llama() -> LlamaForCausalLM:
    """Rotary positions, grouped heads, an output layer tied to the embedding."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def _bundle(model: PreTrainedModel, path: Path, recipe: str) -> Bundle:
    workload = causal_lm(model, _tokens(4, 12), name="lm")
    targets = parse_targets([], None)
    return make_bundle(workload, path, recipe=load_recipe(recipe), targets=targets, timing=None)


@pytest.fixture(scope="module")
def gpt2() -> GPT2LMHeadModel:
    return _gpt2()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, gpt2: GPT2LMHeadModel) -> Bundle:
    return _bundle(gpt2, tmp_path_factory.mktemp("lm") / "gpt2.edge", "dynamic-int8")


def _logits(model: PreTrainedModel, tokens: torch.Tensor) -> np.ndarray:
    """Of the last token, with everything computed anew."""
    with torch.no_grad():
        return model(tokens, use_cache=False).logits[:, -1].numpy()


@pytest.mark.parametrize("engine", ENGINES)
def test_decoding_with_the_cache_equals_full_recomputation_for_64_steps(
    bundle: Bundle, gpt2: GPT2LMHeadModel, engine: str
) -> None:
    tokens = _tokens(2, 8)
    artifact = bundle.manifest.artifact(f"{engine}-fp32")
    with runtimes.get(engine).load(bundle.file(artifact)).stateful() as decoder:
        assert [spec.name for spec in decoder.inputs] == ["input_ids"]
        fed = tokens
        for _ in range(64):
            got = decoder.run({"input_ids": fed.numpy()})["logits"][:, -1]
            np.testing.assert_allclose(got, _logits(gpt2, tokens), atol=1e-5)
            fed = torch.from_numpy(got.argmax(-1, keepdims=True))
            tokens = torch.cat([tokens, fed], dim=1)
        assert decoder.state["past_key_values.1.value"].shape == (2, 4, 71, 8)


def test_the_bundle_says_what_is_state_and_verifies_the_empty_cache(bundle: Bundle) -> None:
    first = bundle.manifest.state[0]
    assert (first.input, first.output) == ("past_key_values.0.key", "present.0.key")
    assert first.start == (("input_ids", 0), 4, 0, 8)
    assert len(bundle.manifest.state) == 4
    records = verify_bundle(bundle)
    assert {record.artifact for record in records if record.passed} >= {
        "onnxruntime-fp32", "openvino-fp32", "onnxruntime-dynamic-int8",
    }  # fmt: skip
    assert all("past 0" in record.extremes for record in records)


def test_a_compressed_artifact_keeps_its_state(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifact("onnxruntime-dynamic-int8")
    with runtimes.get("onnxruntime").load(bundle.file(artifact)).stateful() as decoder:
        decoder.run({"input_ids": _tokens(1, 3).numpy()})
        assert list(decoder.state) == [one.input for one in bundle.manifest.state]


def test_an_exported_file_and_a_bundle_are_workloads_with_their_state(bundle: Bundle) -> None:
    for path in (bundle.path, bundle.path / "model.onnx"):
        workload = resolve(str(path))
        assert workload.state["past_key_values.1.key"] == "present.1.key"
        assert workload.growing == {"past"}


def test_a_bundle_made_of_a_stateful_file_is_stateful_and_can_be_timed(
    bundle: Bundle, tmp_path: Path
) -> None:
    again = make_bundle(
        resolve(str(bundle.path / "model.onnx")),
        tmp_path / "again.edge",
        recipe=load_recipe("fp32"),
        targets=parse_targets([], None),
        timing=None,
    )
    assert again.manifest.state == bundle.manifest.state
    samples = profile_bundle(again, sizes={"sequence": 1, "past": 20}, seconds=0.1).samples
    assert {one.shapes["past_key_values.0.key"] for one in samples} == {(1, 4, 20, 8)}


def test_tied_weights_are_stored_once_in_every_fp32_artifact(
    bundle: Bundle, gpt2: GPT2LMHeadModel
) -> None:
    weights = sum(parameter.nbytes for parameter in gpt2.parameters())  # shared ones once
    table = gpt2.lm_head.weight.nbytes
    graph = onnx.load(bundle.path / "model.onnx").graph
    assert sum(len(tensor.raw_data) for tensor in graph.initializer) < weights + table / 2
    assert (bundle.path / "openvino" / "fp32.bin").stat().st_size < weights + table / 2


def test_rotary_positions_and_grouped_heads_go_on_from_the_cache(tmp_path: Path) -> None:
    model = _llama()
    bundle = _bundle(model, tmp_path / "llama.edge", "fp32")
    tokens = _tokens(1, 20)
    for engine in ENGINES:
        path = bundle.file(bundle.selected(engine))
        with runtimes.get(engine).load(path).stateful() as decoder:
            decoder.run({"input_ids": tokens[:, :13].numpy()})
            got = decoder.run({"input_ids": tokens[:, 13:].numpy()})["logits"][:, -1]
        np.testing.assert_allclose(got, _logits(model, tokens), atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), r"tokens are torch.int64 of shape \[2, 3\]"),
        (torch.zeros(8), r"tokens are torch.float32 of shape \[8\]"),
        (torch.zeros(0, 8, dtype=torch.int64), r"shape \[0, 8\]"),
    ],
)
def test_tokens_of_another_kind_are_refused(
    gpt2: GPT2LMHeadModel, tokens: torch.Tensor, told: str
) -> None:
    with pytest.raises(WorkloadError, match=told):
        causal_lm(gpt2, tokens, name="lm")


def test_a_state_space_model_is_refused() -> None:
    model = MambaForCausalLM(
        MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1)
    )
    with pytest.raises(WorkloadError, match="MambaForCausalLM does not remember keys and values"):
        causal_lm(model, _tokens(1, 8), name="lm")
