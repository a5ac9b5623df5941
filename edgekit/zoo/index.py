"""Write ``index.json``: ``python -m edgekit.zoo.index [NAME ...]`` scores all, or these anew."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from collections.abc import Collection, Iterator

from torch import nn

from edgekit import zoo
from edgekit.atomic import write_file
from edgekit.compress.modules import count_parameters
from edgekit.reference import reference_predict
from edgekit.zoo import Listed
from edgekit.zoo._entry import Entry

__all__ = ["entries", "told"]


def entries() -> Iterator[tuple[str, Entry]]:
    """Every model of every file, with the file's module."""
    for module in sorted(one.name for one in pkgutil.iter_modules(zoo.__path__)):
        found = importlib.import_module(f"edgekit.zoo.{module}")
        yield from ((module, entry) for entry in getattr(found, "ENTRIES", ()))


def told(module: str, entry: Entry) -> Listed:
    """What the index tells of a model; computes its score."""
    workload = entry.workload()
    assert isinstance(workload.model, nn.Module)
    assert workload.metric is not None
    with reference_predict(workload) as predict:
        score = workload.score(predict)
    return Listed(
        module=module,
        family=entry.family,
        description=entry.description,
        parameters=count_parameters(workload.model),
        metric=workload.metric.name,
        score=round(score, 4),
        bar=entry.bar,
        source=entry.source,
    )


def main(names: Collection[str]) -> dict[str, Listed]:
    """Score the models of these names, or all; keep what the index tells of the others.

    A model that is neither named nor in the index yet has no checkpoint, maybe, and is left out.
    """
    kept = {k: one for k, one in zoo.listed().items() if k not in names} if names else {}
    index = {
        entry.name: kept[entry.name] if entry.name in kept else told(module, entry)
        for module, entry in entries()
        if not names or entry.name in names or entry.name in kept
    }
    ordered = sorted(index.items(), key=lambda pair: (pair[1].family, pair[0]))
    document = {name: one.model_dump() for name, one in ordered}
    write_file(zoo.INDEX, (json.dumps(document, indent=1) + "\n").encode())
    return index


if __name__ == "__main__":
    main(sys.argv[1:])
