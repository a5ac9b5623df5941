from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from edgekit.errors import SecurityError
from edgekit.security.tls import Tls
from tests.security.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def test_a_certificate_and_its_key_are_accepted(authority: Authority) -> None:
    cert, key = authority.issue("server")
    assert "ssl_ca_certs" not in Tls(cert, key).uvicorn()
    assert Tls(cert, key, authority.folder / "ca.pem").uvicorn()["ssl_ca_certs"]


@pytest.mark.parametrize(
    ("days", "message"), [((-9, -2), "expired on 20"), ((2, 9), "is not valid before 20")]
)
def test_a_certificate_that_is_not_valid_now_is_refused(
    authority: Authority, days: tuple[int, int], message: str
) -> None:
    cert, key = authority.issue("server", days=days)
    with pytest.raises(SecurityError, match=f"server.pem: the certificate {message}"):
        Tls(cert, key)
    good = authority.issue("good")
    with pytest.raises(SecurityError, match=f"server.pem: the certificate {message}"):
        Tls(*good, client_ca=cert)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    cert, _ = authority.issue("server")
    _, other = authority.issue("other")
    with pytest.raises(SecurityError, match=r"other\.key: is not the key of the certificate"):
        Tls(cert, other)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nxx\n"])
@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
def test_a_file_that_is_missing_or_no_pem_is_named(
    authority: Authority, which: str, content: bytes | None
) -> None:
    cert, key = authority.issue("server")
    bad = authority.folder / "bad.pem"
    if content is not None:
        bad.write_bytes(content)
    files = {"cert": cert, "key": key, "client_ca": authority.folder / "ca.pem", which: bad}
    with pytest.raises(SecurityError, match=r"bad\.pem: (cannot be read|holds no)"):
        Tls(**files)


def test_swapped_files_are_refused(authority: Authority) -> None:
    cert, key = authority.issue("server")
    with pytest.raises(SecurityError, match=r"server\.key: holds no certificate"):
        Tls(key, cert)


def test_a_key_with_a_passphrase_is_refused_with_the_command_that_removes_it(
    authority: Authority,
) -> None:
    cert, key = authority.issue("server")
    locked = authority.folder / "locked.key"
    plain = load_pem_private_key(key.read_bytes(), password=None)
    encryption = BestAvailableEncryption(b"passphrase")
    locked.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(SecurityError, match=r"is encrypted.*openssl pkey -in"):
        Tls(cert, locked)
