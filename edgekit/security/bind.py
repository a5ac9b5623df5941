"""Which addresses a server may listen on."""

from __future__ import annotations

import ipaddress

from edgekit.errors import SecurityError

__all__ = ["check_bind", "in_url", "is_loopback", "loopback_hosts"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``. A name other than ``localhost`` may not be."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_hosts(host: str) -> frozenset[str] | None:
    """What the ``Host`` header may name on a server that listens on ``host``; None for anything."""
    if not is_loopback(host):
        return None
    return frozenset({"localhost", "127.0.0.1", "[::1]", in_url(host)})


def in_url(host: str) -> str:
    """An address as it stands in a URL: with brackets, where it is one of IPv6."""
    return f"[{host}]" if ":" in host else host


def check_bind(host: str, *, tokens: bool, tls: bool, client_ca: bool, insecure: bool) -> str:
    """Refuse to be reached by others who need not show anything.

    Args:
        host: address to listen on.
        tokens: whether requests need a token.
        tls: whether the connection is encrypted.
        client_ca: whether clients need a certificate.
        insecure: whether the operator said that it shall be open.

    Returns:
        A warning for the operator, "" where there is none.

    Raises:
        SecurityError: others can reach it and nothing is asked of them.
    """
    if is_loopback(host):
        return ""
    if not (tokens or client_ca):
        if not insecure:
            raise SecurityError(
                "others can reach this address, and nothing is asked of them",
                where=f"--host {host}",
                fix="Give --tokens FILE (edgekit token makes one) or --tls-client-ca, "
                "or --insecure to let everybody in",
            )
        return f"--insecure: everybody who reaches {host} may use and change this server"
    if not tls:
        return f"without --tls-cert whoever is on the way to {host} can read the tokens"
    return ""
