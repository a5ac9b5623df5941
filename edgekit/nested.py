"""Names for the tensors inside of nested inputs and outputs: ``hx.0``, ``hidden_states.2``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

__all__ = ["is_nested", "leaves", "mapped"]


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Everything in ``value`` that holds nothing else, by where it is; None is left out.

    Mappings (transformers' ``ModelOutput`` is one), dataclasses, lists and tuples are looked into.
    """
    parts = _parts(value)
    if parts is None:
        return {} if value is None else {name: value}
    found: dict[str, Any] = {}
    for key, part in parts:
        found |= leaves(part, _inside(name, key))
    return found


def mapped(value: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """The same structure with every leaf replaced by ``change(its name, leaf)``."""
    parts = _parts(value)
    if parts is None:
        return None if value is None else change(name, value)
    made = {key: mapped(part, change, _inside(name, key)) for key, part in parts}
    if isinstance(value, Mapping):
        other: Any = copy.copy(value)
        for key, part in made.items():
            other[key] = part  # ModelOutput has no update()
        return other
    if isinstance(value, list | tuple):
        return type(value)(**made) if _is_named(value) else type(value)(made.values())
    return replace(value, **made)


def is_nested(value: Any) -> bool:
    """Whether ``value`` is a structure rather than a leaf."""
    return _parts(value) is not None


def _inside(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _parts(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """What is in a structure, with its keys; None for a leaf."""
    if isinstance(value, Mapping):
        return value.items()
    if _is_named(value):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return enumerate(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in fields(value)]
    return None


def _is_named(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")
