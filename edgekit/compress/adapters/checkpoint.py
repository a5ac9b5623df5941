"""A peft checkpoint, read without peft: what it adds to which layer."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from edgekit.errors import CompressError

__all__ = ["Adapter", "Config", "read_adapter"]

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PART = re.compile(
    r"(?P<path>.+)\.(?P<part>lora_embedding_A|lora_embedding_B|lora_A|lora_B"
    r"|lora_magnitude_vector|ia3_l)(?P<bias>\.bias)?(\.weight)?"
)
#: Ways of starting that leave the base weights as they are; others change them when loading.
_PLAIN_STARTS = {True, False, "gaussian", "eva", "orthogonal"}
#: What makes a layer compute something else than its weight plus a product.
_UNKNOWN = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)


class Config(BaseModel):
    """What of ``adapter_config.json`` decides on the merged weights."""

    model_config = ConfigDict(extra="allow")

    peft_type: str
    r: int = 8
    lora_alpha: float = 8
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    alpha_pattern: dict[str, float] | None = None
    init_lora_weights: bool | str = True
    feedforward_modules: list[str] | str | None = None

    def scaling(self, path: str, rank: int) -> float:
        """What the product of a layer's two matrices is multiplied with."""
        alpha = next(
            (
                value
                for pattern, value in (self.alpha_pattern or {}).items()
                if re.match(rf"(.*\.)?({pattern})$", path)
            ),
            self.lora_alpha,
        )
        return alpha / (rank**0.5 if self.use_rslora else rank)

    def scales_input(self, path: str) -> bool:
        """Whether (IA)^3 scales the layer's input instead of its output."""
        wanted = self.feedforward_modules
        if wanted is None:
            return False
        if isinstance(wanted, str):
            return re.fullmatch(wanted, path) is not None
        return any(path == name or path.endswith(f".{name}") for name in wanted)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What one checkpoint holds.

    Attributes:
        config: how it was made.
        parts: tensors by part (``lora_A``, ``lora_B.bias``) by path of the layer.
        whole: parameters that were trained whole and take the place of the base's.
        where: the folder, for errors.
    """

    config: Config
    parts: dict[str, dict[str, torch.Tensor]]
    whole: dict[str, torch.Tensor]
    where: str


def read_adapter(folder: Path) -> Adapter:
    """Read a folder that peft's ``save_pretrained`` has made. Nothing is unpickled.

    Raises:
        CompressError: it is no such folder, is damaged, or holds something that cannot be merged.
    """
    config = _config(folder)
    parts: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    whole: dict[str, torch.Tensor] = {}
    for key, tensor in _tensors(folder).items():
        if not bool(torch.isfinite(tensor).all()):
            raise _refused(folder, f"{key!r} is NaN or infinite", "Train the adapter again")
        name = key.removeprefix(_PREFIX).replace(".base_layer", "").replace(".modules_to_save", "")
        found = _PART.fullmatch(name)
        if found is None:
            whole[name] = tensor
        else:
            parts[found["path"]][found["part"] + (found["bias"] or "")] = tensor
    return Adapter(config, dict(parts), whole, str(folder))


def _config(folder: Path) -> Config:
    try:
        config = Config.model_validate_json((folder / _CONFIG).read_bytes())
    except OSError as error:
        raise _refused(
            folder,
            f"{_CONFIG} cannot be read: {error.strerror}",
            "Give the folder that peft's save_pretrained has written",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(
            folder,
            f"{_CONFIG} is none of peft: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            "Give the folder that peft's save_pretrained has written",
        ) from error
    if config.peft_type not in {"LORA", "IA3"}:
        raise _refused(
            folder,
            f"an adapter of type {config.peft_type} cannot become part of the weights here",
            "Merge it with its own library, or use LoRA, DoRA or (IA)^3",
        )
    extra: dict[str, Any] = config.model_extra or {}
    used = [name for name in _UNKNOWN if extra.get(name)]
    if used or config.init_lora_weights not in _PLAIN_STARTS:
        option = used[0] if used else f"init_lora_weights={config.init_lora_weights!r}"
        raise _refused(
            folder,
            f"it was made with {option}, which is not merged here",
            "Merge it with peft's merge_and_unload and give the merged model",
        )
    return config


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise _refused(
            folder,
            f"there is no {_WEIGHTS}" + (", and a pickle may run any code" if pickled else ""),
            "Save the adapter with save_pretrained(folder, safe_serialization=True)",
        )
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _refused(
            folder, f"{_WEIGHTS} cannot be read: {error}", "Copy or save it again"
        ) from error
    if not tensors:
        raise _refused(folder, f"{_WEIGHTS} is empty", "Save the adapter again")
    return tensors


def _refused(folder: Path, what: str, fix: str) -> CompressError:
    return CompressError(what, where=f"adapter {folder}", fix=fix)
