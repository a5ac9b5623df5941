from __future__ import annotations

from edgekit.security.policy import POLICY


def test_no_page_may_be_framed_run_what_is_in_it_or_load_from_elsewhere() -> None:
    assert "frame-ancestors 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert "http" not in POLICY
