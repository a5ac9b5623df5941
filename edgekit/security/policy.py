"""What browsers may load for our pages (Content Security Policy, level 3)."""

from __future__ import annotations

import base64
import hashlib
import re

__all__ = ["POLICY", "page_policy"]

_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: For pages whose scripts and styles are files of this server.
POLICY = _POLICY.format(script="'self'", style="'self'")


def page_policy(page: str) -> str:
    """The policy of a page whose own scripts and styles are in it: by their hashes, no others."""
    return _POLICY.format(script=_hashes(page, "script"), style=_hashes(page, "style"))


def _hashes(page: str, tag: str) -> str:
    found = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
