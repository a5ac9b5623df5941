"""The part that ``compress`` and ``export`` share: resolve, build a bundle, show it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.cli._console import print_json, shown_progress, stdout
from edgekit.compress.recipe import Recipe, load_recipe
from edgekit.modelref import resolve
from edgekit.numerics import parse_target
from edgekit.pipeline import Timing, make_bundle
from edgekit.profile.sizes import parse_sizes
from edgekit.report.table import print_summary
from edgekit.targets import EngineSettings, parse_targets

__all__ = ["build_and_show"]


def build_and_show(
    model: str,
    *,
    recipe: str,
    output: Path | None,
    runtimes: list[str],
    gpu: str,
    engines: EngineSettings = EngineSettings(),  # noqa: B008, frozen
    calib: Path | None,
    threads: int | None,
    target: str = "native",
    max_drop: float | None = None,
    seconds: float | None = None,
    sizes: Sequence[str] = (),
    opsets: Sequence[str] = (),
    json: bool = False,
) -> Bundle:
    """Build the bundle and print what became of it. ``seconds`` None measures no latency."""
    chosen = _with_max_drop(load_recipe(recipe), max_drop)
    targets = parse_targets(runtimes, gpu, opsets)
    timing = None
    if seconds is not None:
        timing = Timing(threads=threads, seconds=seconds, sizes=parse_sizes(sizes))
    with shown_progress() as progress:
        progress.stage("Load the model")
        workload = resolve(model, calib)
        bundle = make_bundle(
            workload,
            output or Path(f"{workload.name}.edge"),
            recipe=chosen,
            targets=targets,
            timing=timing,
            machine=None if target == "native" else parse_target(target),
            engines=engines,
            source=model,
            progress=progress,
        )
    if json:
        document = bundle.manifest.model_dump(mode="json", exclude={"latency", "calibration"})
        print_json({"bundle": str(bundle.path), **document})
    else:
        console = stdout()
        print_summary(bundle.manifest, console)
        console.print(f"Wrote {bundle.path}", highlight=False, markup=False, soft_wrap=True)
    return bundle


def _with_max_drop(recipe: Recipe, max_drop: float | None) -> Recipe:
    if max_drop is None:
        return recipe
    budget = recipe.budget.model_copy(update={"max_drop": max_drop})
    return recipe.model_copy(update={"budget": budget})
