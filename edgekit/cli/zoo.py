"""``edgekit zoo``."""

from __future__ import annotations

from edgekit.cli._options import Json

__all__ = ["zoo"]


def zoo(json: Json = False) -> None:
    """List the models that come with edgekit."""
    from edgekit.cli._console import print_json, stdout
    from edgekit.zoo import describe, names

    if json:
        print_json({name: describe(name) for name in names()})
        return
    from rich.table import Table

    table = Table("MODEL", "what it is", box=None)
    for name in names():
        table.add_row(f"zoo:{name}", describe(name))
    stdout().print(table)
