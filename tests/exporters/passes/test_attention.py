from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from edgekit.exporters.passes.attention import fuse_attention, simplify_attention
from onnx_ir.passes import common
from torch import nn
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from tests.compress.graphs import model_of, node, random, run
from tests.exporters.blocks import (
    BATCH_AND_SEQUENCE,
    assert_same,
    exported,
    operators,
)

HEADS, WIDTH = 2, 8
LEFTOVERS = ("Mul", "IsNaN", "Where")


class Attention(nn.Module):
    """Self-attention; ``heads`` of keys and values may differ from those of the query."""

    def __init__(self, *, mask: str = "", key_heads: int = HEADS) -> None:
        super().__init__()
        size = WIDTH // HEADS
        self.mask, self.key_heads = mask, key_heads
        self.query, self.out = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, size * key_heads)
        self.value = nn.Linear(WIDTH, size * key_heads)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        batch, steps, _ = x.shape
        size = WIDTH // HEADS

        def split(values: torch.Tensor, heads: int) -> torch.Tensor:
            return values.view(batch, steps, heads, size).transpose(1, 2)

        query = split(self.query(x), HEADS)
        key, value = split(self.key(x), self.key_heads), split(self.value(x), self.key_heads)
        mask = None if kept is None else self._mask(kept, steps)
        y = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=self.key_heads != HEADS
        )
        return self.out(y.transpose(1, 2).reshape(batch, steps, WIDTH))

    def _mask(self, kept: torch.Tensor, steps: int) -> torch.Tensor:
        allowed = kept[:, None, None, :].bool()
        if self.mask == "wide":
            allowed = allowed.expand(kept.shape[0], 1, steps, steps)
        return allowed


def _inputs(batch: int, steps: int, *, mask: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(batch * 100 + steps)
    made = {"x": torch.randn(batch, steps, WIDTH)}
    if mask:
        made["kept"] = (torch.rand(batch, steps) < 0.6).long()
        made["kept"][:, 0] = 1
    return made


def _arrays(batch: int, steps: int, *, mask: bool) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in _inputs(batch, steps, mask=mask).items()}


def _exported(folder: Path, *, dynamic: bool = True, **options: object) -> tuple[Path, Path]:
    torch.manual_seed(0)
    module = Attention(**options)  # type: ignore[arg-type]
    axes = BATCH_AND_SEQUENCE if dynamic else None
    return exported(module, _inputs(2, 5, mask="mask" in options), folder, axes)


def _fused(path: Path) -> tuple[ir.Model, int]:
    model = ir.load(path)
    found = fuse_attention(model.graph)
    common.RemoveUnusedNodesPass()(model)
    return model, found


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("mask", ["", "narrow", "wide"])
def test_simplified_attention_computes_the_same(tmp_path: Path, mask: str, dynamic: bool) -> None:
    options = {"mask": mask} if mask else {}
    source, prepared = _exported(tmp_path, dynamic=dynamic, **options)
    sizes = [(2, 5), (1, 1), (3, 9)] if dynamic else [(2, 5)]
    assert_same(source, prepared, [_arrays(*size, mask=bool(mask)) for size in sizes])


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_nothing_is_left_of_scale_and_nan_guard(tmp_path: Path, dynamic: bool) -> None:
    _, prepared = _exported(tmp_path, dynamic=dynamic)
    assert not operators(prepared).keys() & {*LEFTOVERS, "Shape", "Slice", "Concat"}
    assert operators(prepared)["Transpose"] == 4


def test_a_finite_mask_needs_no_nan_guard(tmp_path: Path) -> None:
    source, prepared = _exported(tmp_path, mask="narrow")
    assert operators(source)["IsNaN"] == 1
    assert operators(prepared)["IsNaN"] == 0
    assert operators(prepared)["Where"] == 1  # the mask itself


def _guarded(low: float) -> ir.Model:
    """A masked softmax with the guard against rows that are masked altogether."""
    nodes = [
        node("MatMul", ["x", "w"], ["scores"]),
        node("Greater", ["kept", "zero"], ["allowed"]),
        node("Where", ["allowed", "zero", "low"], ["mask"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("IsNaN", ["p"], ["broken"]),
        node("Where", ["broken", "zero", "p"], ["safe"]),
        node("Identity", ["safe"], ["y"]),
    ]
    constants = {"w": random(0, 4, 3), "zero": np.float32(0), "low": np.float32(low)}
    return model_of(nodes, constants, {"x": ["n", 4], "kept": ["n", 3]})


@pytest.mark.parametrize(("low", "dropped"), [(-np.inf, 0), (-1e30, 1)])
def test_the_nan_guard_of_an_infinite_mask_is_kept(low: float, dropped: int) -> None:
    model = _guarded(low)
    feeds = {"x": random(1, 2, 4), "kept": np.array([[0, 0, 0], [1, 0, 1]], np.float32)}
    wanted = run(model, feeds)["y"]
    assert simplify_attention(model.graph) == dropped
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted)


def test_the_scale_is_in_both_projections(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Attention()
    _, prepared = exported(module, _inputs(2, 5, mask=False), tmp_path, BATCH_AND_SEQUENCE)
    biases = [
        value.const_value.numpy()
        for value in ir.load(prepared).graph.initializers.values()
        if value.const_value is not None and value.const_value.shape == [WIDTH]
    ]
    share = (WIDTH / HEADS) ** -0.25
    for layer in (module.query, module.key):
        wanted = layer.bias.detach().numpy() * share
        assert any(np.allclose(bias, wanted, atol=1e-6) for bias in biases)


def test_a_scaled_value_that_is_an_output_too_is_scaled_once() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["p", "b"], ["a"]),
        node("Mul", ["a", "c"], ["s"]),
        node("MatMul", ["s", "v"], ["y"]),
    ]
    constants = {"w": random(1, 4, 4), "b": random(2, 4), "c": np.float32(3), "v": random(3, 4, 2)}
    model = model_of(nodes, constants, {"x": ["n", 4]}, outputs=("s", "y"))
    feeds = {"x": random(4, 5, 4)}
    wanted = run(model, feeds)
    assert simplify_attention(model.graph) == 0
    np.testing.assert_allclose(run(model, feeds)["s"], wanted["s"], rtol=1e-5)


def test_a_reshape_that_mixes_heads_is_no_key_transpose() -> None:
    nodes = [
        node("Reshape", ["x", "to3"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        node("Reshape", ["b", "to4"], ["c"]),
        node("Relu", ["c"], ["y"]),
    ]
    constants = {"to3": np.array([2, 15, 4]), "to4": np.array([2, 3, 4, 5])}
    model = model_of(nodes, constants, {"x": [2, 3, 5, 4]})
    feeds = {"x": random(0, 2, 3, 5, 4)}
    wanted = run(model, feeds)
    simplify_attention(model.graph)
    np.testing.assert_array_equal(run(model, feeds)["y"], wanted["y"])


def _masked_sum(x: list[int | str], allowed: np.ndarray) -> ir.Model:
    nodes = [node("Where", ["allowed", "zero", "low"], ["m"]), node("Add", ["x", "m"], ["s"])]
    nodes.append(node("Relu", ["s"], ["y"]))
    constants = {"allowed": allowed, "zero": np.float32(0), "low": np.float32(-9)}
    return model_of(nodes, constants, {"x": x})


def test_a_mask_that_lets_everything_through_is_dropped() -> None:
    model = _masked_sum(["n", 3], np.ones((1, 3), bool))
    assert simplify_attention(model.graph) == 1


def test_a_mask_that_widens_the_scores_is_kept() -> None:
    model = _masked_sum([1, 3], np.ones((2, 3), bool))
    assert simplify_attention(model.graph) == 0
    assert run(model, {"x": random(0, 1, 3)})["y"].shape == (2, 3)


def test_a_mask_that_hides_something_is_kept() -> None:
    model = _masked_sum(["n", 3], np.array([[True, False, True]]))
    assert simplify_attention(model.graph) == 0


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("mask", ["", "wide", "narrow"])
def test_fused_attention_computes_the_same(tmp_path: Path, mask: str, dynamic: bool) -> None:
    options = {"mask": mask} if mask else {}
    source, prepared = _exported(tmp_path, dynamic=dynamic, **options)
    model, found = _fused(prepared)
    if mask != "narrow":  # ONNX Runtime does not widen a mask over the queries
        assert found == 1
        assert operators(model)["MultiHeadAttention"] == 1
        assert operators(model)["Softmax"] == 0
    sizes = [(2, 5), (1, 1), (3, 9)] if dynamic else [(2, 5)]
    assert_same(source, model, [_arrays(*size, mask=bool(mask)) for size in sizes])


def test_attention_with_fewer_key_heads_is_not_fused(tmp_path: Path) -> None:
    source, prepared = _exported(tmp_path, key_heads=1)
    model, found = _fused(prepared)
    assert found == 0
    assert_same(source, model, [_arrays(2, 7, mask=False)])


class Cross(nn.Module):
    """Attention from one sequence to another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(source).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, other), (self.value, other))
        )
        y = nn.functional.scaled_dot_product_attention(query, key, value)
        return y.transpose(1, 2).flatten(2) + x


def test_cross_attention_over_another_length_is_fused_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    examples = {"x": torch.randn(2, 5, WIDTH), "other": torch.randn(2, 7, WIDTH)}
    source, prepared = exported(Cross(), examples, tmp_path)
    model, found = _fused(prepared)
    assert found == 1
    assert_same(source, model, [{name: x.numpy() for name, x in examples.items()}])


def _by_hand(joined: list[int], *, queries: int = 2) -> ir.Model:
    """Attention without projections whose heads are joined into ``joined``."""
    nodes = [
        *(node("Reshape", [name, "split"], [f"{name}4"]) for name in "qkv"),
        node("Transpose", ["q4"], ["qh"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k4"], ["kh"], perm=[0, 2, 3, 1]),
        node("Transpose", ["v4"], ["vh"], perm=[0, 2, 1, 3]),
        node("MatMul", ["qh", "kh"], ["scores"]),
        node("Softmax", ["scores"], ["p"], axis=-1),
        node("MatMul", ["p", "vh"], ["averaged"]),
        node("Transpose", ["averaged"], ["together"], perm=[0, 2, 1, 3]),
        node("Reshape", ["together", "join"], ["joined"]),
        node("Relu", ["joined"], ["y"]),
    ]
    constants = {"split": np.array([0, 0, HEADS, -1]), "join": np.array(joined)}
    inputs = {"q": [queries, 5, WIDTH], "k": [2, 5, WIDTH], "v": [2, 5, WIDTH]}
    return model_of(nodes, constants, inputs)


def test_heads_that_are_not_joined_into_channels_are_not_fused() -> None:
    model = _by_hand([-1, WIDTH])
    assert fuse_attention(model.graph) == 0
    assert fuse_attention(_by_hand([0, 0, WIDTH]).graph) == 1


def test_queries_that_all_samples_share_are_not_fused() -> None:
    assert fuse_attention(_by_hand([0, 0, WIDTH], queries=1).graph) == 0


def test_weights_that_are_read_elsewhere_stay() -> None:
    model = _by_hand([0, 0, WIDTH])
    scores = next(value for n in model.graph for value in n.outputs if value.name == "p")
    model.graph.outputs.append(scores)
    feeds = {name: random(index, 2, 5, WIDTH) for index, name in enumerate("qkv")}
    wanted = run(model, feeds)
    assert fuse_attention(model.graph) == 1
    common.RemoveUnusedNodesPass()(model)
    got = run(model, feeds)
    for name in ("y", "p"):
        np.testing.assert_allclose(got[name], wanted[name], rtol=1e-5, atol=1e-6)


class _Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=32,
        )  # fmt: skip
        self.encoder = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]


def test_a_small_bert_is_fused_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 50, (2, 6))
    examples = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    source, prepared = exported(_Bert(), examples, tmp_path, BATCH_AND_SEQUENCE)
    assert operators(prepared)["IsNaN"] == 0
    model, found = _fused(prepared)
    assert found == 2
    generator = np.random.default_rng(0)
    cases = []
    for batch, steps in ((2, 6), (1, 1), (3, 11)):
        mask = np.ones((batch, steps), np.int64)
        mask[0, 1 + steps // 2 :] = 0
        cases.append(
            {"input_ids": generator.integers(0, 50, (batch, steps)), "attention_mask": mask}
        )
    assert_same(source, prepared, cases)
    assert_same(source, model, cases)


class _Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = ViTConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            image_size=16, patch_size=8,
        )  # fmt: skip
        self.encoder = ViTModel(config, add_pooling_layer=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.encoder(pixel_values=image)[0]


def test_a_small_vit_is_fused_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    examples = {"image": torch.randn(2, 3, 16, 16)}
    source, prepared = exported(_Vit(), examples, tmp_path, {0: "batch"})
    assert not operators(prepared).keys() & {"IsNaN", "Where"}
    model, found = _fused(prepared)
    assert found == 2
    cases = [{"image": random(batch, batch, 3, 16, 16)} for batch in (1, 2, 5)]
    assert_same(source, prepared, cases)
    assert_same(source, model, cases)
