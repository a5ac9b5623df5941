"""From a URL to a target: find the model, make inputs for it, see that one inference works."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgekit.bundle import Bundle
from edgekit.client import Client, ClientError
from edgekit.profile.inputs import bundle_feeds
from edgekit.profile.records import Settings
from edgekit.profile.targets.base import Target
from edgekit.profile.targets.feeds import made_up, require_fit, told_specs
from edgekit.spec import Feeds, TensorSpec

__all__ = ["Access", "Address", "Connected", "connect", "parse_url"]

_FIX = "Give a URL such as http://127.0.0.1:8000/MODEL or grpc://127.0.0.1:8001/MODEL"

#: Seconds for what is asked before anything is measured.
_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """A model on a server.

    Attributes:
        url: as it was given.
        scheme: ``http``, ``https``, ``grpc`` or ``grpcs``.
        server: the URL without the model; ``host:port`` of gRPC.
        model: its name.
    """

    url: str
    scheme: str
    server: str
    model: str


@dataclass(frozen=True, slots=True)
class Access:
    """What a server asks of its clients.

    Attributes:
        token: sent as a bearer token.
        tls: for https: certificates to trust and to show; None for those of the system.
        certificates: to trust, for grpcs, a PEM file; None for those of the system.
    """

    token: str | None = None
    tls: ssl.SSLContext | None = None
    certificates: Path | None = None


@dataclass(frozen=True, slots=True)
class Connected:
    """A model that answers.

    Attributes:
        target: to be asked.
        feeds: what it is asked, one sample.
        server: name and version, as it says.
    """

    target: Target
    feeds: Feeds
    server: str


def parse_url(url: str) -> Address:
    """Take the model out of a URL.

    Raises:
        ClientError: it is none of a model.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ClientError(f"is no URL: {error}", where=url, fix=_FIX) from error
    if parts.scheme not in {"http", "https", "grpc", "grpcs"} or not parts.hostname:
        raise ClientError("is no URL of a server", where=url, fix=_FIX)
    prefix, _, model = parts.path.rstrip("/").rpartition("/")
    if not model:
        raise ClientError("names no model", where=url, fix=_FIX)
    prefix = prefix.removesuffix("/v2/models")
    if parts.scheme.startswith("http"):
        return Address(url, parts.scheme, f"{parts.scheme}://{parts.netloc}{prefix}", model)
    if port is None:
        raise ClientError("has no port", where=url, fix=_FIX)
    return Address(url, parts.scheme, parts.netloc, model)


def connect(
    address: Address, settings: Settings, access: Access, data: Path | None = None
) -> Connected:
    """Find the model and infer once.

    Args:
        address: of the model.
        settings: sizes of dynamic dimensions; in the offline scenario samples of one request and
            how many requests are under way at a time.
        access: what the server asks for.
        data: a bundle whose first stored sample is sent; None for random values.

    Raises:
        ClientError: nothing answers there, or not for that model.
        SpecError: the inputs do not fit the model.
    """
    made: type[_Http | _Grpc] = _Http if address.scheme.startswith("http") else _Grpc
    door = made(address, access)
    try:
        server, inputs = door.describe()
        feeds = _feeds_of(told_specs(inputs, address.url), data, settings.sizes)
        for size in sorted({1, settings.batch}):
            door.infer(feeds(size))
        target = door.target(feeds, settings.streams, settings.batch)
        return Connected(target, feeds(1), server)
    finally:
        door.close()


def _feeds_of(
    specs: tuple[TensorSpec, ...], data: Path | None, sizes: Mapping[str, int]
) -> Callable[[int], Feeds]:
    if data is None:
        return lambda size: made_up(specs, size, sizes)
    bundle = Bundle.open(data)

    def stored(size: int) -> Feeds:
        feeds = bundle_feeds(bundle, size, sizes)
        require_fit(specs, feeds, str(data))
        return feeds

    return stored


class _Door(ABC):
    """How to reach a model before anything is measured."""

    @abstractmethod
    def describe(self) -> tuple[str, list[Mapping[str, Any]]]:
        """Name and version of the server, and the inputs of the model."""

    @abstractmethod
    def infer(self, feeds: Feeds) -> None:
        """One inference."""

    @abstractmethod
    def target(self, feeds: Callable[[int], Feeds], streams: int, batch: int) -> Target:
        """What the scenario asks."""

    @abstractmethod
    def close(self) -> None: ...


class _Http(_Door):
    def __init__(self, address: Address, access: Access) -> None:
        self._address, self._access = address, access
        self._client = Client(
            address.server, access.token, timeout=_TIMEOUT, retries=0, tls=access.tls
        )
        self._binary = True

    def describe(self) -> tuple[str, list[Mapping[str, Any]]]:
        server = self._client.metadata()
        self._binary = "binary_tensor_data" in server.get("extensions", ())
        model = self._client.metadata(self._address.model)
        return f"{server.get('name')} {server.get('version')}", model["inputs"]

    def infer(self, feeds: Feeds) -> None:
        self._client.infer(self._address.model, feeds, binary=self._binary)

    def target(self, feeds: Callable[[int], Feeds], streams: int, batch: int) -> Target:
        from edgekit.profile.targets.http import HttpTarget

        return HttpTarget(
            self._address.server,
            self._address.model,
            feeds,
            binary=self._binary,
            token=self._access.token,
            tls=self._access.tls,
            streams=streams,
            batch=batch,
        )

    def close(self) -> None:
        self._client.close()


class _Grpc(_Door):
    def __init__(self, address: Address, access: Access) -> None:
        import grpc

        from edgekit.profile.targets.grpc import GrpcTarget, request_bytes
        from edgekit.serve.proto import METHODS

        self._address, self._token = address, access.token
        self._methods, self._error = METHODS, grpc.RpcError
        self._make, self._bytes = GrpcTarget, request_bytes
        self._credentials = None
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        if address.scheme == "grpcs":
            trusted = access.certificates.read_bytes() if access.certificates else None
            self._credentials = grpc.ssl_channel_credentials(trusted)
            self._channel = grpc.secure_channel(address.server, self._credentials, options)
        else:
            self._channel = grpc.insecure_channel(address.server, options)

    def describe(self) -> tuple[str, list[Mapping[str, Any]]]:
        server = self._asked("ServerMetadata", {})
        model = self._asked("ModelMetadata", {"name": self._address.model})
        inputs: list[Mapping[str, Any]] = [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
            for one in model.inputs
        ]
        return f"{server.name} {server.version}", inputs

    def infer(self, feeds: Feeds) -> None:
        self._call("ModelInfer", self._bytes(self._address.model, feeds))

    def target(self, feeds: Callable[[int], Feeds], streams: int, batch: int) -> Target:
        return self._make(
            self._address.server,
            self._address.model,
            feeds,
            token=self._token,
            credentials=self._credentials,
            streams=streams,
            batch=batch,
        )

    def close(self) -> None:
        self._channel.close()

    def _asked(self, name: str, fields: Mapping[str, str]) -> Any:
        method = self._methods[name]
        return method.response.FromString(
            self._call(name, method.request(**fields).SerializeToString())
        )

    def _call(self, name: str, message: bytes) -> bytes:
        metadata = (("authorization", f"Bearer {self._token}"),) if self._token else ()
        call = self._channel.unary_unary(self._methods[name].path)
        try:
            answer: bytes = call(message, timeout=_TIMEOUT, metadata=metadata)
        except self._error as error:
            status, told = error.code().name, error.details()
            raise ClientError(
                f"answered {status}: {told}",
                where=self._address.url,
                fix=_GRPC_FIXES.get(status, "See the server's log"),
            ) from error
        return answer


_GRPC_FIXES = {
    "UNAVAILABLE": "Check the URL, and that the server runs and is ready",
    "NOT_FOUND": "Ask the server which models it has",
    "UNAUTHENTICATED": "Give a token that the server knows",
    "PERMISSION_DENIED": "Use a token that may do this",
    "INVALID_ARGUMENT": "Give --size, or --data with the bundle that is served",
    "RESOURCE_EXHAUSTED": "Send less at a time",
}
