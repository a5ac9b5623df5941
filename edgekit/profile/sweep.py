"""Sweeps: which settings to try, as ``threads=1,2 batch=1,8 size:sequence=16,128``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from edgekit.bundle import Bundle
from edgekit.errors import SpecError, did_you_mean
from edgekit.manifest import Artifact
from edgekit.profile.points import Point
from edgekit.profile.records import Settings
from edgekit.profile.sizes import require_dimensions
from edgekit.verify import unusable

__all__ = ["KEYS", "Sweep", "parse_sweep", "planned"]

_NUMBERS: Final = ("threads", "batch", "streams")
_WORDS: Final = ("runtime", "precision")
_SIZE: Final = "size:"

#: What can be swept; ``size:`` goes before the name of a dynamic dimension.
KEYS: Final = (*_NUMBERS, *_WORDS, _SIZE)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Values of each axis; an empty axis is not swept.

    Attributes:
        runtime: names; empty for all.
        precision: of artifacts; empty for what the bundle selected for each runtime.
        sizes: by name of the dynamic dimension.
    """

    threads: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    streams: tuple[int, ...] = ()
    runtime: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def parse_sweep(texts: Sequence[str]) -> Sweep:
    """Read ``KEY=VALUE,VALUE`` each.

    Raises:
        SpecError: an unknown or repeated key, no value, or a number below 1.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not (key in KEYS[:-1] or (key.startswith(_SIZE) and key != _SIZE)):
            raise SpecError(
                f"{text!r} is nothing to sweep{did_you_mean(key, KEYS)}",
                where="--sweep",
                fix="Write threads=1,2 batch=1,8 streams=1,2 runtime=NAME,NAME "
                "precision=fp32,int8 or size:DIMENSION=16,128",
            )
        if key in axes:
            raise SpecError(f"{key} is there twice", where="--sweep", fix="Write it once")
        axes[key] = tuple(dict.fromkeys(value.strip() for value in values.split(",")))
        if not all(axes[key]):
            raise SpecError(f"{text!r} has an empty value", where="--sweep", fix="Remove a comma")
    numbers = {key: _numbers(key, axes[key]) for key in axes if key not in _WORDS}
    return Sweep(
        **{key: numbers[key] for key in _NUMBERS if key in numbers},
        runtime=axes.get("runtime", ()),
        precision=axes.get("precision", ()),
        sizes={
            key.removeprefix(_SIZE): values
            for key, values in numbers.items()
            if key.startswith(_SIZE)
        },
    )


def planned(bundle: Bundle, sweep: Sweep, base: Settings) -> tuple[list[Point], list[Point]]:
    """The points of a sweep: every artifact asked for with every setting.

    Args:
        bundle: what is swept.
        sweep: the axes.
        base: of what is not swept.

    Returns:
        What can be measured, and what cannot be, each with its reason.

    Raises:
        SpecError: no artifact is asked for, or no dynamic dimension has that name.
    """
    manifest = bundle.manifest
    axes = {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in manifest.inputs
    }
    require_dimensions(axes, sweep.sizes, "--sweep")
    fixed = [name for name, named in axes.items() if 0 not in named]
    possible: list[Point] = []
    skipped: list[Point] = []
    for artifact, settings in itertools.product(_artifacts(bundle, sweep), _settings(sweep, base)):
        reason = unusable(artifact.runtime, artifact.target)
        if not reason and settings.batch != 1 and fixed:
            reason = f"the batch of input {fixed[0]!r} is fixed"
        point = Point(artifact, settings, reason)
        (skipped if reason else possible).append(point)
    return possible, skipped


def _artifacts(bundle: Bundle, sweep: Sweep) -> list[Artifact]:
    manifest = bundle.manifest
    selected = manifest.selected
    _known("runtime", sweep.runtime, [one.runtime for one in manifest.artifacts])
    _known("precision", sweep.precision, [one.precision for one in manifest.artifacts])
    found = [
        one
        for one in manifest.artifacts
        if (not sweep.runtime or one.runtime in sweep.runtime)
        and (one.precision in sweep.precision if sweep.precision else one.id in selected)
    ]
    if not found:
        told = ", ".join(one.id for one in manifest.artifacts)
        raise SpecError(
            "no artifact is of such a runtime and precision",
            where="--sweep",
            fix=f"The bundle has {told}",
        )
    return found


def _settings(sweep: Sweep, base: Settings) -> Iterator[Settings]:
    sizes = (
        dict(zip(sweep.sizes, values, strict=True))
        for values in itertools.product(*sweep.sizes.values())
    )
    for streams, threads, batch, size in itertools.product(
        sweep.streams or (base.streams,),
        sweep.threads or (base.threads,),
        sweep.batch or (base.batch,),
        list(sizes),
    ):
        made = {"streams": streams, "threads": threads, "batch": batch}
        yield base.model_copy(update={**made, "sizes": {**base.sizes, **size}})


def _numbers(key: str, values: Sequence[str]) -> tuple[int, ...]:
    for value in values:
        if not value.isdecimal() or int(value) < 1:
            raise SpecError(
                f"{value!r} is no number of {key.removeprefix(_SIZE)}",
                where="--sweep",
                fix="Write numbers from 1 on, with commas between",
            )
    return tuple(dict.fromkeys(int(value) for value in values))


def _known(axis: str, wanted: Sequence[str], there: Sequence[str]) -> None:
    for word in wanted:
        if word not in there:
            known = list(dict.fromkeys(there))
            raise SpecError(
                f"the bundle has no {axis} {word!r}{did_you_mean(word, known)}",
                where="--sweep",
                fix=f"It has {', '.join(known)}",
            )
