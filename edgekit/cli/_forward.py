"""The options of this call, to be given to the same command elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import typer

__all__ = ["forwarded"]


def forwarded(context: typer.Context, without: Collection[str]) -> list[str]:
    """The options that the user wrote, written anew; arguments are left out.

    Args:
        context: of the running command.
        without: names of parameters that are not handed on.
    """
    written = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and parameter.param_type_name == "option" and name not in without:
            written += _option(parameter, context.params[name])
    return written


def _option(parameter: Any, value: Any) -> list[str]:
    long = [name for name in parameter.opts if name.startswith("--")]
    if parameter.is_flag:
        return [long[0] if value else parameter.secondary_opts[0]]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"{long[0]}={one}" for one in values]
