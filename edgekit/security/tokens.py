"""The file of tokens: names, hashes, rights and rates, never the tokens themselves.

A list in YAML, which ``edgekit token`` appends to::

    - name: camera
      sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
      scopes: [infer]
      rate: 50      # requests a second; without it no limit
      burst: 100    # requests at once; without it one second's worth
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import stat
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgekit.atomic import write_file
from edgekit.errors import SecurityError, did_you_mean

__all__ = ["Scope", "Token", "add_token", "load_tokens", "parse_tokens"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Scope(StrEnum):
    """What a token may be used for."""

    INFER = "infer"
    ADMIN = "admin"


class Token(BaseModel):
    """One entry of the file."""

    # Built when a file is read: most servers start without one.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str = Field(pattern=_NAME)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(min_length=1)
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None

    @property
    def depth(self) -> int:
        """Requests that may come at once where there is a rate."""
        return self.burst or max(1, math.ceil(self.rate or 1))


def load_tokens(path: Path) -> tuple[Token, ...]:
    """The tokens of a file, at least one.

    Raises:
        SecurityError: the file is missing, malformed, empty or writable by others.
    """
    try:
        others_write = os.name == "posix" and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        text = path.read_bytes().decode()
    except OSError as error:
        raise SecurityError(
            f"cannot be read: {error.strerror}", where=str(path), fix=_make(path)
        ) from error
    except UnicodeDecodeError as error:
        raise SecurityError("is not UTF-8 text", where=str(path), fix=_make(path)) from error
    if others_write:
        raise SecurityError(
            "others may write to it, and so give themselves a token",
            where=str(path),
            fix=f"Run: chmod 600 {path}",
        )
    tokens = parse_tokens(text, str(path))
    if not tokens:
        raise SecurityError("has no token", where=str(path), fix=_make(path))
    return tokens


def parse_tokens(text: str, where: str) -> tuple[Token, ...]:
    """The tokens in the text of a file, in its order.

    Raises:
        SecurityError: malformed, or two entries share a name or a hash.
    """
    try:
        # Every scalar stays a string: a hash of digits only must not become a number.
        document = yaml.load(text, yaml.BaseLoader)  # noqa: S506, it makes nothing but strings
    except (yaml.YAMLError, RecursionError) as error:
        raise SecurityError(
            f"is not valid YAML: {error}", where=where, fix="Write a list of tokens"
        ) from error
    if not document:
        return ()
    try:
        tokens = TypeAdapter(list[Token]).validate_python(document)
    except ValidationError as error:
        raise _malformed(error, where) from error
    for field in ("name", "sha256"):
        values = [getattr(token, field) for token in tokens]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise SecurityError(
                f"two tokens have the {field} {twice}", where=where, fix="Remove one of them"
            )
    return tuple(tokens)


def add_token(
    path: Path,
    name: str,
    *,
    admin: bool = False,
    rate: float | None = None,
    burst: int | None = None,
) -> str:
    """Make a token and append its hash to the file, which only its owner may read afterwards.

    Args:
        path: the file; made where there is none. What is in it stays as it is written.
        name: who the token is for.
        admin: whether it may load and unload models, too.
        rate: requests a second, None for no limit.
        burst: requests at once, None for one second's worth.

    Returns:
        The token: 256 random bits. It is stored nowhere.

    Raises:
        SecurityError: the file is malformed, or the name is taken or not a name.
        OutputError: the file cannot be written.
    """
    secret = secrets.token_urlsafe(32)
    scopes = [Scope.INFER, Scope.ADMIN] if admin else [Scope.INFER]
    entry = [f"- name: {name!r}", f"  sha256: {hashlib.sha256(secret.encode()).hexdigest()}"]
    entry.append(f"  scopes: [{', '.join(scopes)}]")
    entry += [
        f"  {key}: {value}"
        for key, value in (("rate", rate), ("burst", burst))
        if value is not None
    ]
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    parse_tokens(before, str(path))  # so that an error in it is not taken for one of the new entry
    text = before + ("\n" if before and not before.endswith("\n") else "") + "\n".join(entry) + "\n"
    parse_tokens(text, str(path))
    write_file(path, text.encode(), mode=0o600)
    return secret


def _malformed(error: ValidationError, where: str) -> SecurityError:
    first = error.errors()[0]
    index, *rest = [*first["loc"], ""][:3]
    entry = f", entry {int(index) + 1}" if isinstance(index, int) else ""
    field = str(rest[0]) if rest else ""
    fix = "Write name, sha256, scopes and, to limit it, rate and burst; or run edgekit token"
    if first["type"] == "extra_forbidden":
        guess = did_you_mean(field, Token.model_fields)
        return SecurityError(f"unknown key {field!r}{guess}", where=f"{where}{entry}", fix=fix)
    what = f"{field}: {first['msg']}" if field else first["msg"]
    return SecurityError(what, where=f"{where}{entry}", fix=fix)


def _make(path: Path) -> str:
    return f"Make one with edgekit token NAME --file {path}"
