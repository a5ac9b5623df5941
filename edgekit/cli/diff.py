"""``edgekit diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import Json

__all__ = ["diff"]

_SIDE = "x.edge:ARTIFACT, x.edge (its fastest artifact), model.onnx, model.xml or model.pt2"


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help=f"The one that is right: {_SIDE}.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one, likewise.")],
    top: Annotated[int, typer.Option(min=1, help="Layers to list, the worst first.")] = 15,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write an HTML page with all layers here.")
    ] = None,
    json: Json = False,
) -> None:
    """Find the layer at which two artifacts part.

    Runs both on the samples that the bundle holds and compares everything that they compute
    inside: two runtimes, or fp32 and int8. Exit code 1 when one layer is to blame.
    """
    from dataclasses import asdict

    from edgekit import diff as differ
    from edgekit.atomic import write_file
    from edgekit.cli._console import print_json, stdout
    from edgekit.diff.page import difference_page, print_difference
    from edgekit.errors import GateError

    sides = differ.open_side(first), differ.open_side(second)
    found = differ.compare(*sides, differ.shared_feeds(*sides))
    if output is not None:
        write_file(output, difference_page(found, sides[0].name, sides[1].name).encode())
    if json:
        print_json(asdict(found))
    else:
        print_difference(found, top, stdout())
    if found.guilty is not None:
        layer = found.guilty
        raise GateError(
            f"parts from {sides[0].name} at {layer.op} {layer.tensor!r}"
            + (f" of module {layer.module}" if layer.module else ""),
            where=sides[1].name,
            fix="Look at that layer's weights, axes and scales, or keep it in float",
        )
