from __future__ import annotations

from typing import Any

import pytest

from edgekit.errors import SecurityError
from edgekit.security.bind import check_bind, is_loopback, loopback_hosts

ANYWHERE = "0.0.0.0"  # noqa: S104, nothing is bound
OPEN = {"tokens": False, "tls": False, "client_ca": False, "insecure": False}


def check(host: str, **given: Any) -> str:
    return check_bind(host, **{**OPEN, **given})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_nothing(host: str) -> None:
    assert is_loopback(host)
    assert check(host) == ""


@pytest.mark.parametrize(
    "host", [ANYWHERE, "::", "192.168.1.5", "device.local", "", "localhost.evil.example", "127"]
)
def test_another_address_wants_tokens_or_client_certificates(host: str) -> None:
    with pytest.raises(SecurityError, match=r"nothing is asked of them.*--tokens FILE") as caught:
        check(host, tls=True)
    assert caught.value.exit_code == 2
    assert check(host, tls=True, tokens=True) == ""
    assert check(host, tls=True, client_ca=True) == ""


def test_insecure_opens_it_with_a_warning() -> None:
    assert "everybody who reaches 0.0.0.0" in check(ANYWHERE, insecure=True)


def test_tokens_without_encryption_are_warned_about() -> None:
    assert "can read the tokens" in check(ANYWHERE, tokens=True)


def test_host_names_are_checked_on_loopback_only() -> None:
    assert loopback_hosts(ANYWHERE) is None
    assert loopback_hosts("::1") == {"localhost", "127.0.0.1", "[::1]"}
