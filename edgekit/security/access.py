"""Whether a request may pass: the same answer for HTTP and gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.security.limit import TokenBucket
from edgekit.security.tokens import Scope, Token

__all__ = ["Access", "Denied"]

_SCHEME = b"bearer "


@dataclass(frozen=True, slots=True)
class Denied:
    """Why a request may not pass.

    Attributes:
        status: as HTTP knows it.
        reason: one line for the client.
        challenge: value of the header ``WWW-Authenticate`` (RFC 6750), "" for none.
        retry_after: seconds until it may pass, 0.0 where waiting does not help.
    """

    status: int
    reason: str
    challenge: str = ""
    retry_after: float = 0.0


_MISSING = Denied(401, "this server wants a token: Authorization: Bearer TOKEN", "Bearer")
_UNKNOWN = Denied(401, "this server does not know that token", 'Bearer error="invalid_token"')


class Access:
    """Tokens by what they may do and how often.

    Args:
        tokens: as :func:`~edgekit.security.tokens.load_tokens` gives them.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._known: dict[bytes, tuple[Token, TokenBucket | None]] = {}
        self.replace(tokens)

    def replace(self, tokens: Iterable[Token]) -> None:
        """Know these tokens from now on, and no others; what did not change keeps its count."""
        before = self._known
        self._known = {}
        for token in tokens:
            digest = bytes.fromhex(token.sha256)
            kept = before.get(digest)
            if kept is None or kept[0] != token:
                rate = token.rate
                kept = token, None if rate is None else TokenBucket(rate, token.depth)
            self._known[digest] = kept

    def check(self, authorization: bytes | None, scope: Scope, now: float) -> Denied | None:
        """None when the request may pass; it then counts against the token's rate.

        Args:
            authorization: the whole header, None when there is none.
            scope: what the request wants to do.
            now: seconds on a monotonic clock.
        """
        if authorization is None:
            return _MISSING
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return _MISSING
        digest = hashlib.sha256(authorization[len(_SCHEME) :].strip()).digest()
        # No secret is compared: what is looked up is a hash that its sender can only guess at, by
        # its keyed hash in turn. The time that it takes tells nothing about any token.
        found = self._known.get(digest)
        if found is None:
            return _UNKNOWN
        token, bucket = found
        if scope not in token.scopes:
            return Denied(
                403,
                f"token {token.name!r} lacks the scope {scope.value!r}",
                f'Bearer error="insufficient_scope", scope="{scope.value}"',
            )
        wait = 0.0 if bucket is None else bucket.take(now)
        if not wait:
            return None
        return Denied(429, f"token {token.name!r} is over its rate", retry_after=wait)
