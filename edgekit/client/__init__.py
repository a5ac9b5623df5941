"""Ask a server of the Open Inference Protocol: edgekit's own, Triton, MLServer, OpenVINO's ...::

    from edgekit.client import Client

    with Client("http://device:8000", token="...") as client:
        outputs = client.infer("digits", {"image": array})

:class:`AsyncClient` has the same methods to await.
"""

from __future__ import annotations

from edgekit.client.errors import ClientError
from edgekit.client.http import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "ClientError"]
