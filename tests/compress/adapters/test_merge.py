"""Merged weights compute what peft computes, and everything that does not fit is told."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from edgekit.compress.adapters.checkpoint import read_adapter
from edgekit.compress.adapters.merge import merge_adapter
from edgekit.compress.adapters.recipe_pass import MergeAdapter
from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import check_module
from edgekit.errors import CompressError
from edgekit.workload import Workload

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what peft's own imports warn of is not ours to mend
    from peft import IA3Config, LoraConfig, get_peft_model


class _Convs(nn.Module):
    """A convolution, one of size 1, an embedding and two square layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(2, 5, 3, padding=1)
        self.point = nn.Conv2d(5, 4, 1)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids).unflatten(2, (2, 3)).movedim(2, 1)
        x = torch.relu(self.point(torch.relu(self.conv(x)))).mean((2, 3))
        scores: torch.Tensor = self.head(torch.relu(self.mix(x)))
        return scores


def _bert() -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "vocab_size": 50}
    config = BertConfig(num_hidden_layers=2, num_attention_heads=2, **sizes)
    return BertModel(config, add_pooling_layer=False)


def _gpt2() -> nn.Module:
    return GPT2Model(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=16))


_LORA: dict[str, Any] = {"r": 3, "lora_alpha": 7}
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "lora": (_bert, lambda: LoraConfig(target_modules=["query", "value"], **_LORA)),
    "rslora": (
        _bert,
        lambda: LoraConfig(target_modules=["query", "dense"], use_rslora=True, **_LORA),
    ),
    "patterns": (
        _bert,
        lambda: LoraConfig(
            target_modules=["query", "dense"],
            rank_pattern={"query": 2},
            alpha_pattern={"layer.0.attention.self.query": 5, r".*output\.dense": 11},
            **_LORA,
        ),
    ),
    "dora": (_bert, lambda: LoraConfig(target_modules=["query", "dense"], use_dora=True, **_LORA)),
    "trained whole": (
        _Convs,
        lambda: LoraConfig(target_modules=["mix"], modules_to_save=["head"], **_LORA),
    ),
    "biases": (_bert, lambda: LoraConfig(target_modules=["query"], bias="all", **_LORA)),
    "bias of B": (
        _bert,
        lambda: LoraConfig(target_modules=["query", "dense"], lora_bias=True, **_LORA),
    ),
    "gpt2": (
        _gpt2,
        lambda: LoraConfig(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, **_LORA),
    ),
    "gpt2 dora": (
        _gpt2,
        lambda: LoraConfig(
            target_modules=["c_attn", "c_proj"], fan_in_fan_out=True, use_dora=True, **_LORA
        ),
    ),
    "convolutions": (
        _Convs,
        lambda: LoraConfig(target_modules=["conv", "point", "mix", "words"], **_LORA),
    ),
    "convolutions dora": (
        _Convs,
        lambda: LoraConfig(
            target_modules=["conv", "point", "mix", "words"], use_dora=True, **_LORA
        ),
    ),
    "ia3": (
        _bert,
        lambda: IA3Config(
            target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]
        ),
    ),
    "ia3 gpt2": (
        _gpt2,
        lambda: IA3Config(
            target_modules=["c_attn", "mlp.c_proj"],
            feedforward_modules=["mlp.c_proj"],
            fan_in_fan_out=True,
        ),
    ),
    "ia3 convolutions": (
        _Convs,
        lambda: IA3Config(target_modules=["conv", "mix"], feedforward_modules=["mix"]),
    ),
}


def _adapted(name: str, folder: Path) -> tuple[nn.Module, nn.Module]:
    """A base model, and peft's own merge of an adapter that lies in ``folder``."""
    torch.manual_seed(0)
    build, config = CASES[name]
    base = build().eval()
    # peft warns of its own defaults, and looks for base models on the network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(copy.deepcopy(base), config())
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        adapted.save_pretrained(folder, save_embedding_layers=False)
        return base, adapted.eval().merge_and_unload()


def _outputs(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(12).reshape(2, 6) % 11
    with torch.no_grad():
        result = model(ids)
    return result if isinstance(result, torch.Tensor) else result[0]


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_pefts_own_merge_computes(name: str, tmp_path: Path) -> None:
    base, wanted = _adapted(name, tmp_path)
    merged = copy.deepcopy(base)
    changes = merge_adapter(merged, read_adapter(tmp_path))
    assert changes
    torch.testing.assert_close(_outputs(merged), _outputs(wanted), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(_outputs(merged), _outputs(base), atol=1e-3)
    assert [n for n, _ in merged.named_parameters()] == [n for n, _ in base.named_parameters()]


def test_attention_of_pytorch_has_its_three_projections_in_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    first, second = torch.randn(2, 8), torch.randn(24, 2)
    _write(tmp_path, {"self_attn.lora_A.weight": first, "self_attn.lora_B.weight": second})
    merged = copy.deepcopy(base)
    merge_adapter(merged, read_adapter(tmp_path))
    wanted = base.self_attn.in_proj_weight + 2.0 * second @ first
    torch.testing.assert_close(merged.self_attn.in_proj_weight, wanted)


class _Wrapped(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.encoder(ids)[0]
        return states


def _workload(model: nn.Module) -> Workload:
    return Workload("wrapped", model.eval(), {"ids": torch.arange(12).reshape(2, 6)})


def test_the_pass_finds_the_base_inside_the_workloads_model(tmp_path: Path) -> None:
    base, wanted = _adapted("dora", tmp_path)
    workload = _workload(_Wrapped(base))
    before = _outputs(base).clone()
    made = MergeAdapter(type="merge-adapter", path=tmp_path).apply(workload, ModuleContext())
    check_module(workload, made.model, "merge-adapter")
    torch.testing.assert_close(_outputs(made.model), _outputs(wanted), rtol=1e-5, atol=1e-5)
    assert torch.equal(_outputs(base), before)
    assert made.report.changed == len(made.report.changes) == 8
    assert made.report.changes[0].where.startswith("encoder.encoder.layer.0.")
    assert made.report.changes[0].after == "plus rank 3 times 2.333, with magnitudes"


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight


def test_a_tied_weight_is_changed_only_where_it_was_adapted(tmp_path: Path) -> None:
    model = _Tied()
    before = model.words.weight.detach().clone()
    _write(
        tmp_path,
        {"head.lora_A.weight": torch.ones(2, 4), "head.lora_B.weight": torch.ones(7, 2)},
    )
    merge_adapter(model, read_adapter(tmp_path))
    assert torch.equal(model.words.weight, before)
    torch.testing.assert_close(model.head.weight.detach(), before + 4.0)


def _write(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    """A checkpoint in peft's format: rank 2, alpha 4."""
    keys = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(keys))
    save_file(
        {f"base_model.model.{name}": t for name, t in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


_GOOD = {"mix.lora_A.weight": torch.ones(2, 4), "mix.lora_B.weight": torch.ones(4, 2)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mixx.lora_A.weight": torch.ones(2, 4)}, r"no 'mixx'; the nearest is 'mix'"),
        ({**_GOOD, "tail.weight": torch.ones(1)}, "no 'tail.weight'"),
        ({**_GOOD, "mix.lora_A.weight": torch.ones(2, 5)}, r"lora_A has shape \[2, 5\]"),
        ({**_GOOD, "mix.lora_B.weight": torch.ones(3, 2)}, r"lora_B \[3, 2\]"),
        ({"mix.lora_A.weight": torch.ones(2, 4)}, "has lora_A, which is not one adapter"),
        ({**_GOOD, "head.weight": torch.ones(2, 2)}, r"shape \[2, 2\], the model's has \[3, 4\]"),
        ({**_GOOD, "mix.lora_magnitude_vector": torch.ones(3)}, "3 magnitudes for 4 outputs"),
        ({"mix.ia3_l": torch.ones(5, 1)}, "5 factors for 4 outputs"),
        ({**_GOOD, "mix.lora_B.bias": torch.ones(5)}, "a bias is added"),
        ({**_GOOD, "mix.lora_A.weight": torch.full((2, 4), torch.nan)}, "NaN or infinite"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    tensors: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    _write(tmp_path, tensors)
    with pytest.raises(CompressError, match=message) as caught:
        merge_adapter(_Convs(), read_adapter(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dora_without_magnitudes_is_told(tmp_path: Path) -> None:
    _write(tmp_path, _GOOD, use_dora=True)
    with pytest.raises(CompressError, match="no magnitudes"):
        merge_adapter(_Convs(), read_adapter(tmp_path))


def test_two_places_that_fit_are_told(tmp_path: Path) -> None:
    model = nn.ModuleDict({"left": _Convs(), "right": _Convs()})
    with pytest.raises(CompressError, match=r"2 places, under 'left\.', 'right\.'"):
        merge_adapter(model, read_adapter(_write(tmp_path, _GOOD)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"peft_type": "LOHA"}, "type LOHA"),
        ({"peft_type": None}, "is none of peft: peft_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"use_qalora": True}, "use_qalora"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
    ],
)
def test_what_is_not_a_sum_or_a_factor_is_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CompressError, match=message):
        read_adapter(_write(tmp_path, _GOOD, **config))


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompressError, match=r"adapter_config.json cannot be read"):
        read_adapter(tmp_path)


def test_a_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, _GOOD)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(CompressError, match="none of peft"):
        read_adapter(tmp_path)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    _write(tmp_path, _GOOD)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(CompressError, match=r"pickle may run any code.*safe_serialization"):
        read_adapter(tmp_path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, _GOOD) / "adapter_model.safetensors"
    assert load_file(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CompressError, match="cannot be read"):
        read_adapter(tmp_path)


def test_groups_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    tensors = {"0.lora_A.weight": torch.ones(2, 4, 3, 3), "0.lora_B.weight": torch.ones(4, 1, 1, 1)}
    with pytest.raises(CompressError, match="groups"):
        merge_adapter(model, read_adapter(_write(tmp_path, tensors)))
