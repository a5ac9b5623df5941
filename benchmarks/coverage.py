"""Write what ``edgekit zoo check --suite transformers -o FILE`` found as a page of tables.

python benchmarks/coverage.py coverage.jsonl benchmarks/coverage.md
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from edgekit.zoo.check.coverage import COLUMNS, row, totals
from edgekit.zoo.check.outcome import RUNTIMES, Outcome

#: Stages whose failure is another tool's.
FOREIGN = ("torch.onnx.export", "build")


def main(source: Path, target: Path) -> None:
    header, *lines = source.read_text("utf-8").splitlines()
    found = [Outcome.model_validate_json(line) for line in lines]
    outcomes = sorted(found, key=lambda one: one.kind)
    built = [one for one in outcomes if one.built]
    counted = [asdict(part) for part in totals(outcomes)]
    wrong = [
        (one.kind, stage, shown(reason))
        for one in built
        for stage, reason in one.reasons.items()
        if stage not in FOREIGN
    ] + [
        (one.kind, runtime, f"{one.sqnr_db[runtime]:.1f} dB")
        for one in built
        for runtime in RUNTIMES
        if runtime in one.sqnr_db and not one.verified
    ]
    versions = ", ".join(
        f"{name} {found}" for name, found in json.loads(header)["versions"].items()
    )
    how = "Small random models; SQNR of the worst output against PyTorch, batch 2."
    parts = (
        "# Architectures of transformers\n",
        f"`edgekit zoo check --suite transformers --gpu sm89`. {how}\n\nWith {versions}.\n",
        _table(list(counted[0]), [list(part.values()) for part in counted]),
        "## What fails\n",
        _table(["architecture", "stage", "cause"], wrong),
        "## All\n",
        _table(COLUMNS, [row(one) for one in built]),
    )
    target.write_text("\n".join(parts), "utf-8")


def shown(reason: str) -> str:
    """A reason without the folders of one machine, as the cell of a table."""
    return re.sub(r"\S*/site-packages/", "", reason).replace("|", "\\|")


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join("| " + " | ".join(map(str, cells)) + " |\n" for cells in lines)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
