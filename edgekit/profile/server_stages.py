"""Where the time of requests goes inside a running server, as the server itself says."""

from __future__ import annotations

import ssl
from urllib.parse import quote

__all__ = ["server_stages"]

_MICRO = 1e3


def server_stages(
    url: str,
    model: str,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    last: int = 1000,
) -> dict[str, float]:
    """Mean nanoseconds of each stage of the last requests, for :attr:`Result.stages`.

    edgekit's server tells them at ``/v2/models/NAME/profile``. To ask costs the server a little, so
    ask after the run.

    Args:
        url: of the server over HTTP, with the path before ``/v2`` if it has one.
        model: its name there.
        token: sent as a bearer token.
        tls: certificates to trust and to show, for https; None for those of the system.
        last: of so many requests.

    Returns:
        By stage; empty where the server does not tell, as those of others, or cannot be asked.
    """
    import httpx  # optional: only who measures a server needs it

    headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
    path = f"{url.rstrip('/')}/v2/models/{quote(model, safe='')}/profile"
    try:
        answer = httpx.get(
            path,
            params={"last": last},
            headers=headers,
            timeout=10,
            verify=tls if tls is not None else True,
        )
        stages = answer.json()["requests"]["stages"] if answer.is_success else {}
        means = {name: row["mean"] for name, row in stages.items()}
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # it is no server of ours: the run stands without
    return {name: float(mean) * _MICRO for name, mean in means.items() if mean is not None}
