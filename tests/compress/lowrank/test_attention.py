"""Attention blocks with smaller heads: found, understood by trying, and right."""

from __future__ import annotations

import math

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from edgekit import zoo
from edgekit.compress.base import ModuleContext
from edgekit.compress.lowrank.attention import Maps, called, find_attention, probe, shrink
from edgekit.compress.lowrank.base import Candidate
from edgekit.compress.lowrank.joint import AttentionSite
from edgekit.compress.lowrank.layers import find
from edgekit.compress.lowrank.recipe_pass import LowRank
from edgekit.compress.lowrank.statistics import input_moments
from edgekit.compress.modules import copied, example_tensors
from edgekit.errors import CompressError
from edgekit.workload import Workload

_WIDTH, _HEADS, _SIZE = 24, 4, 6


class _Attention(nn.Module):
    """What many people write; the scale comes from the size of a head."""

    def __init__(self, *, bias: bool = True, rank: int = _SIZE) -> None:
        super().__init__()
        self.num_heads, self.head_dim = _HEADS, _SIZE
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(_WIDTH, _WIDTH, bias=bias) for _ in range(3)
        )
        self.out_proj = nn.Linear(_WIDTH, _WIDTH)
        with torch.no_grad():  # heads of low rank, bias and all
            for layer in (self.q_proj, self.v_proj):
                for parameter in layer.parameters():
                    parameter.mul_(3).unflatten(0, (_HEADS, _SIZE))[:, rank:] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(self._attend(q, k, v).transpose(1, 2).flatten(2))

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class _FixedScale(_Attention):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(self.head_dim)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return torch.softmax(q @ k.mT * self.scale, -1) @ v


class _Rotary(_Attention):
    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        angle = torch.arange(q.shape[2], dtype=q.dtype)[:, None]
        q, k = (x * angle.cos() + x.roll(1, -1) * angle.sin() for x in (q, k))
        return super()._attend(q, k, v)


class _QueryNorm(_Attention):
    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return super()._attend(functional.layer_norm(q, q.shape[-1:]), k, v)


class _Constant(_Attention):
    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (_HEADS, _SIZE)).transpose(1, 2)


def _probe(model: nn.Module, x: torch.Tensor) -> tuple[float | None, str]:
    (found,) = find_attention(model)
    calls = called(model, [found], [x])
    return probe(model.get_submodule(found.name), found, calls[found.name])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, _WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("kind", "power"), [(_Attention, 0.5), (_FixedScale, 0.0)])
def test_probe_finds_where_the_scale_comes_from(
    kind: type[_Attention], power: float, x: torch.Tensor
) -> None:
    torch.manual_seed(0)
    assert _probe(kind().eval(), x) == (power, "")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (_Rotary, "something lies between"),
        (_QueryNorm, "something lies between"),
        (_Constant, "smaller heads do not run: RuntimeError"),
    ],
)
def test_probe_refuses_what_it_does_not_understand(
    kind: type[_Attention], why: str, x: torch.Tensor
) -> None:
    torch.manual_seed(0)
    power, reason = _probe(kind().eval(), x)
    assert power is None
    assert why in reason


def test_probe_refuses_where_the_example_cannot_tell() -> None:
    power, why = _probe(_Attention().eval(), torch.randn(2, 1, _WIDTH))  # one token: softmax is 1
    assert power is None
    assert "makes no difference" in why


@pytest.mark.parametrize("kind", [_Attention, _FixedScale])
def test_a_rotation_of_heads_changes_nothing(kind: type[_Attention], x: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    with torch.no_grad():
        wanted = model(x)
        (found,) = find_attention(model)
        turn = torch.linalg.qr(torch.randn(_HEADS, _SIZE, _SIZE, dtype=torch.float64))[0]
        shrink(model, found, Maps(turn, turn, turn, turn.mT))
        torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-5)


def _workload(model: nn.Module, x: torch.Tensor) -> Workload:
    return Workload(
        "attention",
        model.eval(),
        {"x": x},
        calibration=lambda: [{"x": x.numpy()}],
        dynamic_shapes={},
    )


def _smaller(workload: Workload, method: str = "activation-svd", **rank: float) -> LowRank:
    return LowRank.model_validate(
        {"type": "lowrank", "attention": True, "method": method, "multiple": 1, "rank": rank}
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", ["svd", "activation-svd"])
def test_heads_of_low_rank_are_cut_without_a_loss(method: str, bias: bool, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    workload = _workload(_Attention(bias=bias, rank=2), x)
    done = _smaller(workload, method, energy=0.999999).apply(workload, ModuleContext())
    (change,) = done.report.changes
    assert (change.before, change.after, change.kept) == ("4 heads of 6", "rank 2", True)
    assert done.model.head_dim == 2
    assert done.model.q_proj.weight.shape == (8, _WIDTH)
    assert done.model.out_proj.weight.shape == (_WIDTH, 8)
    with torch.no_grad():
        torch.testing.assert_close(done.model(x), workload.model(x), rtol=1e-4, atol=1e-4)


def test_error_falls_with_the_head_size(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    workload = _workload(_Attention(), x)
    errors = []
    with torch.no_grad():
        wanted = workload.model(x)
        for ratio in (0.2, 0.4, 0.6, 0.8, 0.9):
            done = _smaller(workload, ratio=ratio).apply(workload, ModuleContext())
            errors.append(float((done.model(x) - wanted).norm()))
    assert errors == sorted(errors, reverse=True)


def test_a_block_that_is_not_understood_is_left_alone_and_named(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    workload = _workload(nn.Sequential(_Rotary(), nn.Linear(_WIDTH, _WIDTH)), x)
    done = _smaller(workload, ratio=0.5).apply(workload, ModuleContext())
    refused = [change for change in done.report.changes if not change.kept]
    assert [change.where for change in refused] == ["0"]
    assert "something lies between" in refused[0].why
    factorized = {change.where for change in done.report.changes if change.kept}
    assert factorized == {"0.q_proj", "0.k_proj", "0.v_proj", "0.out_proj", "1"}


def test_an_excluded_projection_keeps_its_block(x: torch.Tensor) -> None:
    torch.manual_seed(0)
    workload = _workload(_Attention(), x)
    recipe = _smaller(workload, ratio=0.5).model_copy(update={"exclude": ("*_proj",)})
    with pytest.raises(CompressError, match="no Linear or Conv2d left"):
        recipe.apply(workload, ModuleContext())


@pytest.mark.parametrize("method", ["svd", "activation-svd"])
def test_minilm_at_full_rank_gives_its_embedding(method: str) -> None:
    workload = zoo.load("minilm")
    model = copied(workload)
    inputs = list(example_tensors(workload).values())
    with torch.no_grad():
        wanted = model(*inputs)
        found = list(find_attention(model))
        assert [one.owner for one in found] == ["self"] * 6
        assert {(one.heads, one.head_size, one.output) for one in found} == {
            (12, 32, "output.dense")
        }
        calls = called(model, found, inputs)
        layers = {name: layer.module for name, layer in find(model, inputs)[0].items()}
        moments = {}
        if method == "activation-svd":
            moments = input_moments(model, layers, workload.feeds(), list(workload.example_inputs))
        for one in found:
            power, _ = probe(model.get_submodule(one.name), one, calls[one.name])
            assert power == 0.0
            site = AttentionSite(one, model, moments, dict.fromkeys(layers, 1), power)
            site.replace(model, Candidate((32,), 0.0, 0, 0))
        torch.testing.assert_close(model(*inputs), wanted, rtol=0, atol=1e-4)


_SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": 50,
}


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (transformers.BertConfig(**_SMALL), "4 heads of 6"),
        (transformers.RobertaConfig(**_SMALL), "4 heads of 6"),
        (
            transformers.DistilBertConfig(
                dim=24, n_layers=1, n_heads=4, hidden_dim=32, vocab_size=50
            ),
            "4 heads of 6",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_heads_of_the_bert_family_can_be_cut(
    config: transformers.PretrainedConfig, heads: str
) -> None:
    torch.manual_seed(0)
    encoder = transformers.AutoModel.from_config(config).eval()

    class States(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            for layer in self.modules():  # larger weights, so that attention attends to something
                if isinstance(layer, nn.Linear):
                    layer.weight.data *= 20

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.encoder(ids)[0]

    workload = Workload("bert", States().eval(), {"ids": torch.arange(2, 18).reshape(2, 8)})
    done = _smaller(workload, "svd", ratio=0.5).apply(workload, ModuleContext())
    (change,) = [one for one in done.report.changes if one.before == heads]
    assert (change.kept, change.after) == (True, "rank 3")
    with torch.no_grad():
        assert done.model(*example_tensors(workload).values()).shape == (2, 8, 24)
