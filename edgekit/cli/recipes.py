"""``edgekit recipes``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli._options import Json

__all__ = ["recipes"]


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this recipe (a name or a .yaml file) in full.")
    ] = None,
    json: Json = False,
) -> None:
    """List the recipes, or check and show one."""
    import yaml

    from edgekit.cli._console import print_json, stdout
    from edgekit.compress.recipe import load_recipe, recipe_names

    chosen = [load_recipe(one) for one in ([name] if name else recipe_names())]
    documents = [recipe.model_dump(mode="json", by_alias=True) for recipe in chosen]
    if json:
        print_json(documents[0] if name else documents)
    elif name:
        typer.echo(yaml.safe_dump(documents[0], sort_keys=False), nl=False)
    else:
        from rich.table import Table

        table = Table("recipe", "what it does", box=None)
        for recipe in chosen:
            table.add_row(recipe.name, recipe.description)
        stdout().print(table)
