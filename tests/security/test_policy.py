from __future__ import annotations

import base64
import hashlib

from edgekit.security.policy import POLICY, page_policy


def test_a_page_may_run_what_is_in_it_and_nothing_else() -> None:
    page = "<style>p {}</style><script>a()</script><script>b()</script>"
    policy = page_policy(page)
    for text in ("p {}", "a()", "b()"):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "'self'" not in policy.split("style-src")[0]


def test_a_page_without_scripts_may_run_none() -> None:
    assert "script-src 'none'" in page_policy("<p>text</p>")


def test_no_page_may_be_framed_or_load_from_elsewhere() -> None:
    for policy in (POLICY, page_policy("")):
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy
