"""Recipes: which passes to run, in order, and what the result may cost."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from edgekit.compress.base import GraphPass, ModulePass, Pass, pass_types
from edgekit.errors import RecipeError, nearest

__all__ = ["Budget", "Recipe", "Search", "load_recipe", "recipe_names"]

_SHIPPED = files("edgekit.compress") / "recipes"


class Budget(BaseModel):
    """What a compressed artifact may cost and has to gain to be selected.

    Attributes:
        max_drop: how much worse the workload's metric may get, in the metric's own unit
            (0.01 of an accuracy given as a fraction is one point); None for what the workload
            itself allows.
        share: the part of what the workload allows that this recipe may use up; 0.2 of an allowed
            point is 0.2 points. It does not touch a ``max_drop`` given here or with ``--max-drop``.
        min_speedup: least speed-up over the uncompressed artifact of the same runtime, measured
            in the same interleaved run; the whole confidence interval has to lie above it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_drop: float | None = Field(default=None, ge=0.0)
    share: float = Field(default=1.0, gt=0.0, le=1.0)
    min_speedup: float = Field(default=1.0, ge=0.0)


class Search(BaseModel):
    """Which operators stay float, found out by trying.

    Attributes:
        latency: leave float what is not measurably faster as int8 on the engine at hand.
        accuracy: leave the fewest operators float that bring the metric inside the budget.
        seconds: stop trying after this time for each runtime; the best so far is kept.
        memory_mb: stop trying when the process holds more than this many megabytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency: bool = True
    accuracy: bool = True
    seconds: float = Field(default=120.0, gt=0.0)
    memory_mb: int | None = Field(default=None, gt=0)


class Recipe(BaseModel):
    """An ordered list of passes and a budget.

    Attributes:
        samples: calibrate on at most this many samples.
        passes: in the order in which they run.
        budget: what the result may cost.
        search: try which operators to leave float; None quantizes all that the engine can.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str = ""
    samples: int = Field(default=512, gt=0)
    passes: tuple[SerializeAsAny[Pass], ...]
    budget: Budget = Budget()
    search: Search | None = None

    @property
    def module_passes(self) -> list[ModulePass]:
        """The steps that change the PyTorch module."""
        return [step for step in self.passes if isinstance(step, ModulePass)]

    @property
    def graph_passes(self) -> list[GraphPass]:
        """The steps that rewrite the ONNX graph, after those."""
        return [step for step in self.passes if isinstance(step, GraphPass)]

    @field_validator("passes", mode="after")
    @classmethod
    def _in_order(cls, value: tuple[Pass, ...]) -> tuple[Pass, ...]:
        kinds = [isinstance(step, ModulePass) for step in value]
        if kinds != sorted(kinds, reverse=True):
            raise ValueError("steps that train the module have to come before those on the graph")
        return value

    @field_validator("passes", mode="before")
    @classmethod
    def _passes(cls, value: Any) -> Any:
        """Turn each entry into the registered pass that its ``type`` names."""
        if not isinstance(value, list):
            return value
        return tuple(_build_pass(entry, index) for index, entry in enumerate(value))


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that ship with the package."""
    found = (entry.name.removesuffix(".yaml") for entry in _SHIPPED.iterdir())
    return tuple(sorted(found))


def load_recipe(reference: str) -> Recipe:
    """A shipped recipe by name, or a recipe file by path.

    Raises:
        RecipeError: no such recipe, not YAML, an unknown pass or key (names the nearest known
            one), or a value of the wrong type.
    """
    path = Path(reference)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise RecipeError("no such file", where=reference, fix="Check the path of the recipe")
        return _parse(path.read_text(), reference)
    if reference not in recipe_names():
        guess = nearest(reference, recipe_names())
        hint = f", did you mean {guess!r}" if guess else ""
        raise RecipeError(
            f"unknown recipe {reference!r}{hint}",
            fix=f"Choose from {', '.join(recipe_names())}, or give the path of a .yaml file",
        )
    return _parse((_SHIPPED / f"{reference}.yaml").read_text(), reference)


def _parse(text: str, where: str) -> Recipe:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"is not YAML: {error}", where=where, fix="Mend the syntax") from error
    if not isinstance(data, dict):
        raise RecipeError(
            "is not a mapping", where=where, fix="Start with the keys name and passes"
        )
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise _explain(error, Recipe, where) from error
    except RecipeError as error:
        raise RecipeError(error.what, where=f"{where}, {error.where}", fix=error.fix) from error


def _build_pass(entry: Any, index: int) -> Any:
    if isinstance(entry, Pass):
        return entry
    where = f"passes[{index}]"
    kind = entry.get("type") if isinstance(entry, dict) else None
    known = pass_types()
    if kind not in known:
        guess = nearest(str(kind), known)
        hint = f", did you mean {guess!r}" if guess else ""
        raise RecipeError(
            f"unknown pass type {kind!r}{hint}", where=where, fix=f"Choose from {', '.join(known)}"
        )
    try:
        return known[kind].model_validate(entry)
    except ValidationError as error:
        raise _explain(error, known[kind], where) from error


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> RecipeError:
    """One line out of pydantic's list: the first problem, with the nearest key for a typo."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] != "extra_forbidden":
        return RecipeError(f"{place}: {first['msg']}", where=where, fix="Correct that value")
    nested: dict[str, type[BaseModel]] = {"budget": Budget, "search": Search}
    owner = nested.get(str(first["loc"][0]), model) if len(first["loc"]) > 1 else model
    keys = [field.alias or name for name, field in owner.model_fields.items()]
    guess = nearest(str(first["loc"][-1]), keys)
    hint = f", did you mean {guess!r}" if guess else ""
    return RecipeError(
        f"unknown key {place!r}{hint}", where=where, fix=f"Known keys: {', '.join(keys)}"
    )
