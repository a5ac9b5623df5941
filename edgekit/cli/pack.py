"""``edgekit pack`` and ``edgekit unpack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import BundlePath

__all__ = ["pack", "unpack"]


def pack(
    bundle: BundlePath,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file to write [default: NAME.edge.tar.zst beside it]."
        ),
    ] = None,
) -> None:
    """Put a bundle into one small file, to copy to a device.

    The bundle is verified first. Weights that several artifacts share are stored once.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._console import stdout
    from edgekit.packing import SUFFIX
    from edgekit.packing import pack as write
    from edgekit.report.table import size_text

    opened = Bundle.open(bundle)
    whole = bundle.resolve()
    out = output or whole.with_name(f"{whole.name}{SUFFIX}")
    write(opened, out)
    before = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    told = f"Wrote {out}, {size_text(out.stat().st_size)} instead of {size_text(before)}"
    stdout().print(told, highlight=False, markup=False, soft_wrap=True)


def unpack(
    packed: Annotated[Path, typer.Argument(metavar="FILE", help="A NAME.edge.tar.zst.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The bundle to write [default: NAME.edge in this folder]."
        ),
    ] = None,
) -> None:
    """Unpack a bundle and check every hash; what is damaged is not written."""
    from edgekit.cli._console import stdout
    from edgekit.packing import SUFFIX
    from edgekit.packing import unpack as read

    name = packed.name.removesuffix(SUFFIX)
    if output is None and name == packed.name:
        raise typer.BadParameter(f"{packed} does not end in {SUFFIX}: say where with --output")
    bundle = read(packed, output or Path(name))
    stdout().print(f"Wrote {bundle.path}", highlight=False, markup=False, soft_wrap=True)
