"""Certificates of the server, checked before anything listens."""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from edgekit.errors import SecurityError

__all__ = ["Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate, and whose certificates it wants of its clients.

    Attributes:
        cert: PEM, the server's certificate first, then those between it and the root.
        key: PEM, its private key without a passphrase.
        client_ca: PEM, certificates that sign those of clients; None asks clients for none.

    Raises:
        SecurityError: a file is missing or not PEM, the key is another certificate's, or a
            certificate is not valid now.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None
    _for_grpc: list[Any] = field(default_factory=list, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        leaf = _certificates(self.cert)[0]
        if _public(leaf.public_key()) != _public(_private_key(self.key).public_key()):
            raise SecurityError(
                f"is not the key of the certificate {self.cert}",
                where=str(self.key),
                fix="Give the --tls-key that --tls-cert was made with",
            )
        _check_dates(leaf, self.cert)
        if self.client_ca is not None:
            for certificate in _certificates(self.client_ca):
                _check_dates(certificate, self.client_ca)

    def uvicorn(self) -> dict[str, Any]:
        """Options of ``uvicorn.Config``."""
        options: dict[str, Any] = {"ssl_certfile": self.cert, "ssl_keyfile": self.key}
        if self.client_ca is not None:
            options |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return options

    def grpc(self) -> Any:
        """Credentials of a gRPC server."""
        import grpc  # the HTTP server works without it

        def next_pair() -> Any:
            """What new connections get from now on; None for what they got so far."""
            return self._for_grpc.pop() if self._for_grpc else None

        return grpc.dynamic_ssl_server_credentials(
            self._grpc_pair(), next_pair, self.client_ca is not None
        )

    def renew(self, context: ssl.SSLContext | None) -> None:
        """Show new connections the certificate that the files hold now; check it before.

        Args:
            context: of the HTTP server, None without one.
        """
        if context is not None:
            context.load_cert_chain(self.cert, self.key)
        if "grpc" in sys.modules:
            self._for_grpc[:] = [self._grpc_pair()]

    def _grpc_pair(self) -> Any:
        import grpc

        return grpc.ssl_server_certificate_configuration(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            self.client_ca.read_bytes() if self.client_ca else None,
        )


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise SecurityError(
            "holds no certificate that can be read",
            where=str(path),
            fix="Give a PEM file: it begins with -----BEGIN CERTIFICATE-----",
        ) from error


def _private_key(path: Path) -> Any:
    try:
        return load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise SecurityError(
            "is encrypted, and a server starts with nobody there to give the passphrase",
            where=str(path),
            fix=f"Write it without: openssl pkey -in {path} -out plain.key",
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SecurityError(
            "holds no private key that can be read",
            where=str(path),
            fix="Give a PEM file: it begins with -----BEGIN PRIVATE KEY-----",
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            fix="Check the path and its rights",
        ) from error


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_dates(certificate: x509.Certificate, path: Path) -> None:
    now = datetime.now(UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if begins <= now <= ends:
        return
    what = f"expired on {ends:%Y-%m-%d}" if now > ends else f"is not valid before {begins:%Y-%m-%d}"
    raise SecurityError(
        f"the certificate {what}, it is {now:%Y-%m-%d} here",
        where=str(path),
        fix="Renew it, or set the clock",
    )
