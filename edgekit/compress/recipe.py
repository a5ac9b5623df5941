"""Recipes: which passes to run, in order, and what the result may cost."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from edgekit.compress.base import GraphPass, ModulePass, Pass, pass_types
from edgekit.errors import RecipeError, did_you_mean

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
        ranks = [_rank(step) for step in value]
        for step, rank, before in zip(value[1:], ranks[1:], ranks, strict=False):
            if rank < before:
                raise ValueError(f"{step.type!r} has to come {_PLACES[rank]}")
        for index, step in enumerate(value):
            for earlier in value[:index]:
                lost = earlier.makes & step.undoes
                if lost:
                    raise ValueError(
                        f"{step.type!r} would undo the {' and '.join(sorted(lost))} that "
                        f"{earlier.type!r} makes: {_instead(earlier, step)}"
                    )
        return value

    @field_validator("passes", mode="before")
    @classmethod
    def _passes(cls, value: Any) -> Any:
        """Turn each entry into the registered pass that its ``type`` names."""
        if not isinstance(value, list):
            return value
        return tuple(_build_pass(entry, index) for index, entry in enumerate(value))


#: Where in a recipe the steps of each rank stand.
_PLACES = (
    "before all others, as the rest starts from what it makes",
    "before the others that change the module, as it takes another module",
    "before the steps on the ONNX graph, as it changes the PyTorch module",
    "before the steps that each engine has its own form of, as it is done once for all engines",
    "last",
)


def _rank(step: Pass) -> int:
    if isinstance(step, ModulePass):
        if step.redefines:
            return 0
        return 1 if step.starts_over else 2
    return 4 if isinstance(step, GraphPass) and step.per_engine else 3


def _instead(earlier: Pass, step: Pass) -> str:
    """What to do about ``step``, which undoes ``earlier``."""
    if _rank(step) <= _rank(earlier) and not step.makes & earlier.undoes:
        return f"put it before {earlier.type!r}"
    return "leave one of them out"


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
        hint = did_you_mean(reference, recipe_names())
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
        hint = did_you_mean(str(kind), known)
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
    if first["type"] == "value_error":
        what = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{place}: {what}", where=where, fix="Correct the recipe")
    if first["type"] != "extra_forbidden":
        return RecipeError(f"{place}: {first['msg']}", where=where, fix="Correct that value")
    owner = _owner(model, first["loc"][:-1])
    keys = [field.alias or name for name, field in owner.model_fields.items()]
    hint = did_you_mean(str(first["loc"][-1]), keys)
    return RecipeError(
        f"unknown key {place!r}{hint}", where=where, fix=f"Known keys: {', '.join(keys)}"
    )


def _owner(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The model that the keys at ``path`` belong to."""
    for part in path:
        field = model.model_fields.get(str(part))
        kinds = get_args(field.annotation) or (field.annotation,) if field is not None else ()
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), model)
    return model
