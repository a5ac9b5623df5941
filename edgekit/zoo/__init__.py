"""Models with real weights, real data and real metrics, to try everything on.

A file of this package is a family; its ``ENTRIES`` are what it has. ``index.json`` tells of all of
them without PyTorch; ``python -m edgekit.zoo.index`` writes it.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

from edgekit.errors import ModelReferenceError, nearest

if TYPE_CHECKING:
    from edgekit.workload import Workload
    from edgekit.zoo._entry import Entry

__all__ = ["INDEX", "Listed", "describe", "entry", "listed", "load", "names"]

INDEX = Path(__file__).parent / "index.json"


class Listed(BaseModel):
    """What the index tells of a model.

    Attributes:
        module: of this package.
        family: the group of models that it belongs to.
        description: one line.
        parameters: how many numbers were learnt.
        metric: what it is judged by.
        score: its metric in float32.
        bar: what that is at least (at most, where less is better).
        source: where the bar comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    module: str
    family: str
    description: str
    parameters: int
    metric: str
    score: float
    bar: float
    source: str


@cache
def listed() -> dict[str, Listed]:
    """The index, by name without the ``zoo:`` before it."""
    return TypeAdapter(dict[str, Listed]).validate_json(INDEX.read_bytes())


def names() -> tuple[str, ...]:
    """Names of the models, without the ``zoo:`` before them."""
    return tuple(listed())


def describe(name: str) -> str:
    """What a model is, in one line."""
    return listed()[name].description


def entry(name: str) -> Entry:
    """What the model's file tells of it.

    Raises:
        ModelReferenceError: the name is unknown, or a package with weights or data is missing.
    """
    if name not in listed():
        guess = nearest(name, listed())
        hint = f", did you mean 'zoo:{guess}'" if guess else ""
        raise ModelReferenceError(
            f"unknown zoo model {name!r}{hint}", fix=f"Choose from {', '.join(listed())}"
        )
    try:
        module = importlib.import_module(f"edgekit.zoo.{listed()[name].module}")
    except ModuleNotFoundError as error:
        raise ModelReferenceError(
            f"needs the package {error.name!r}",
            where=f"zoo:{name}",
            fix="Run: pip install 'edgekit[torch,zoo]'",
        ) from error
    found: Entry = next(one for one in module.ENTRIES if one.name == name)
    return found


def load(name: str) -> Workload:
    """Build the model of that name with its weights and data.

    Raises:
        ModelReferenceError: see :func:`entry`.
    """
    return entry(name).workload()
