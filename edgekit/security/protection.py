"""What a server asks of those who reach it: from settings to what the server is made with."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict

from edgekit.errors import SecurityError
from edgekit.security.access import Access
from edgekit.security.bind import check_bind, loopback_hosts
from edgekit.security.tokens import load_tokens

if TYPE_CHECKING:
    from edgekit.security.tls import Tls

__all__ = ["Protection", "SecurityConfig"]


class SecurityConfig(BaseModel):
    """What an operator may set.

    Attributes:
        tokens: file of ``edgekit token``; requests need one of its tokens.
        tls_cert: PEM certificate of the server.
        tls_key: its private key.
        tls_client_ca: PEM certificates that sign those of clients, which need one then.
        insecure: be reachable by others without tokens or client certificates.
        require_signature: public key; bundles that its holder did not sign are not served.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    require_signature: Path | None = None


@dataclass(frozen=True, slots=True)
class Protection:
    """What the settings come to, every file of them read and checked.

    Attributes:
        config: the settings.
        access: the tokens, None where none is asked for.
        tls: the certificates, None for plain connections.
        hosts: names that a request may call the server by, None for any.
        warning: for the operator, "" where there is none.
    """

    config: SecurityConfig
    access: Access | None
    tls: Tls | None
    hosts: frozenset[str] | None
    warning: str

    @classmethod
    def of(cls, config: SecurityConfig, host: str) -> Self:
        """The protection of a server that listens on ``host``.

        Raises:
            SecurityError: a file is missing or wrong, or others could reach the server and nothing
                would be asked of them.
        """
        tls = _tls(config)
        warning = check_bind(
            host,
            tokens=config.tokens is not None,
            tls=tls is not None,
            client_ca=config.tls_client_ca is not None,
            insecure=config.insecure,
        )
        access = None if config.tokens is None else Access(load_tokens(config.tokens))
        return cls(config, access, tls, loopback_hosts(host), warning)

    def reload(self, context: ssl.SSLContext | None) -> None:
        """Read the files of tokens and certificates again; nothing changes where one is wrong.

        New connections see the new certificate. Those that sign clients' stay as they are.

        Args:
            context: of the HTTP server, None without TLS.

        Raises:
            SecurityError: a file is missing or wrong.
        """
        tokens = () if self.config.tokens is None else load_tokens(self.config.tokens)
        tls = _tls(self.config)
        if self.access is not None:
            self.access.replace(tokens)
        if self.tls is not None and tls is not None:
            self.tls.renew(context)

    def grpc_credentials(self) -> Any:
        """Of a gRPC server, None for plain connections."""
        return None if self.tls is None else self.tls.grpc()

    def grpc_interceptors(self) -> list[Any]:
        """Of a gRPC server on asyncio."""
        if self.access is None:
            return []
        from edgekit.security.grpc_guard import GrpcGuard  # grpc is loaded where it is served only

        return [GrpcGuard(self.access)]


def _tls(config: SecurityConfig) -> Tls | None:
    cert, key = config.tls_cert, config.tls_key
    if cert is not None and key is not None:
        from edgekit.security.tls import Tls  # cryptography takes long to import

        return Tls(cert, key, config.tls_client_ca)
    if cert is None and key is None and config.tls_client_ca is None:
        return None
    raise SecurityError(
        "TLS needs both a certificate and its key",
        where="edgekit serve",
        fix="Give --tls-cert and --tls-key",
    )
