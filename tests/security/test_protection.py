from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import SecurityError
from edgekit.security.protection import Protection, SecurityConfig
from edgekit.security.tokens import add_token
from edgekit.serve.config import ConfigError, checked
from tests.security.certificates import Authority


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    authority = Authority.make(tmp_path)
    cert, key = authority.issue("server")
    old_cert, old_key = authority.issue("old", days=(-9, -2))
    add_token(tmp_path / "tokens.yaml", "camera")
    return {
        "cert": cert, "key": key, "old_cert": old_cert, "old_key": old_key,
        "ca": tmp_path / "ca.pem", "tokens": tmp_path / "tokens.yaml", "none": tmp_path / "none",
    }  # fmt: skip


def protection(files: dict[str, Path], host: str, **settings: str) -> Protection:
    return Protection.of(
        SecurityConfig(**{key: files[name] for key, name in settings.items()}),  # type: ignore[arg-type]
        host,
    )


def test_loopback_asks_for_nothing_but_its_own_name(files: dict[str, Path]) -> None:
    found = protection(files, "127.0.0.1")
    assert (found.access, found.tls, found.warning) == (None, None, "")
    assert found.hosts is not None
    assert "localhost" in found.hosts


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens": "tokens", "tls_cert": "cert", "tls_key": "key"},
        {"tls_cert": "cert", "tls_key": "key", "tls_client_ca": "ca"},
    ],
)
def test_tokens_or_client_certificates_open_another_address(
    files: dict[str, Path], settings: dict[str, str]
) -> None:
    found = protection(files, "device.local", **settings)
    assert (found.hosts, found.warning) == (None, "")
    assert found.tls is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "nothing is asked of them"),
        ({"tls_cert": "cert", "tls_key": "key"}, "nothing is asked of them"),
        ({"tls_key": "key"}, "Give --tls-cert and --tls-key"),
        ({"tls_cert": "cert"}, "Give --tls-cert and --tls-key"),
        ({"tls_client_ca": "ca"}, "Give --tls-cert and --tls-key"),
        ({"tls_cert": "old_cert", "tls_key": "old_key"}, "expired on"),
        ({"tls_cert": "cert", "tls_key": "old_key"}, "is not the key of the certificate"),
        ({"tokens": "none"}, "none: cannot be read"),
    ],
)
def test_what_is_missing_or_wrong_is_told_before_anything_listens(
    files: dict[str, Path], settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SecurityError, match=message):
        protection(files, "device.local", **settings)


@pytest.mark.parametrize("security", [{"tokns": "x"}, {"tokens": 1}, "on"])
def test_a_misspelt_setting_in_a_file_is_refused(security: Any) -> None:
    with pytest.raises(ConfigError, match="security"):
        checked({"security": security}, "config.yaml")
