"""What browsers may load for our pages (Content Security Policy, level 3)."""

from __future__ import annotations

__all__ = ["POLICY"]

#: For pages whose scripts and styles are files of this server.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
