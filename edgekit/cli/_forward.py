"""The options of this call, to be given to the same command elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import typer

from edgekit.errors import SpecError

__all__ = ["forwarded", "refuse_given"]


def forwarded(context: typer.Context, without: Collection[str]) -> list[str]:
    """The options that the user wrote, written anew; arguments are left out.

    Args:
        context: of the running command.
        without: names of parameters that are not handed on.
    """
    written = []
    for name, parameter in _given(context).items():
        if name not in without:
            written += _option(parameter, context.params[name])
    return written


def refuse_given(
    context: typer.Context, names: Collection[str], why: str, fix: str = "Leave it out"
) -> None:
    """Refuse options that the user wrote.

    Args:
        context: of the running command.
        names: of parameters.
        why: what is wrong with them.
        fix: what to do instead.

    Raises:
        SpecError: one of these was.
    """
    for name, parameter in _given(context).items():
        if name in names:
            raise SpecError(why, where=_long(parameter), fix=fix)


def _given(context: typer.Context) -> dict[str, Any]:
    """The options that the user wrote, by the name of the parameter."""
    found = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        given = source is not None and source.name == "COMMANDLINE"
        if given and parameter.param_type_name == "option":
            found[parameter.name or ""] = parameter
    return found


def _long(parameter: Any) -> str:
    return next(str(name) for name in parameter.opts if name.startswith("--"))


def _option(parameter: Any, value: Any) -> list[str]:
    long = _long(parameter)
    if parameter.is_flag:
        return [long if value else parameter.secondary_opts[0]]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"{long}={one}" for one in values]
