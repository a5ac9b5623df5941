"""A model behind gRPC: ``ModelInfer`` of the Open Inference Protocol with raw tensors."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import grpc

from edgekit.profile.targets.remote import PATIENCE, Dropped, Remote
from edgekit.serve import datatypes
from edgekit.serve.proto import METHODS, messages
from edgekit.spec import Feeds

__all__ = ["GrpcTarget", "request_bytes"]

#: Connections: one has a window for what may be under way, and one thread at the server.
_CHANNELS = 4


class GrpcTarget(Remote):
    """A model of a server, by address.

    The bytes of a request are made once, and answers are not parsed: neither is what a server
    takes.

    Args:
        address: ``host:port``.
        model: its name there.
        feeds: the input of one request of so many samples.
        token: sent as a bearer token.
        credentials: of :func:`grpc.ssl_channel_credentials`; None for plain text.
        streams, batch: see :class:`~edgekit.profile.targets.remote.Remote`.
    """

    def __init__(
        self,
        address: str,
        model: str,
        feeds: Callable[[int], Feeds],
        *,
        token: str | None = None,
        credentials: Any = None,
        streams: int = 1,
        batch: int = 1,
    ) -> None:
        super().__init__(address, streams=streams, batch=batch)
        self._address = address
        self._credentials = credentials
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._messages = {size: request_bytes(model, feeds(size)) for size in {1, batch}}
        self._channels: list[Any] = []
        self._stubs: itertools.cycle[Any] = itertools.cycle(())

    async def ask(self, size: int) -> int:
        call = next(self._stubs)(self._messages[size], metadata=self._metadata, timeout=PATIENCE)
        left = time.perf_counter_ns()
        try:
            await call
        except grpc.aio.AioRpcError as error:
            told = (error.details() or "").split(",")[0][:80]
            raise Dropped(f"answered {error.code().name}{f': {told}' if told else ''}") from error
        return left

    async def prepare(self, count: int) -> None:
        del count  # a connection carries any number
        if self._channels:
            return
        self._channels = [self._channel() for _ in range(_CHANNELS)]
        self._stubs = itertools.cycle(
            channel.unary_unary(METHODS["ModelInfer"].path) for channel in self._channels
        )
        try:
            async with asyncio.timeout(PATIENCE):
                for channel in self._channels:
                    await channel.channel_ready()
        except TimeoutError as error:
            raise Dropped("no connection") from error

    async def finish(self) -> None:
        for channel in self._channels:
            await channel.close()

    def _channel(self) -> Any:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # else all channels share one connection
        ]
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options)
        return grpc.aio.secure_channel(self._address, self._credentials, options)


def request_bytes(model: str, feeds: Feeds) -> bytes:
    """A ``ModelInferRequest`` with raw tensors."""
    message = messages.ModelInferRequest(model_name=model)
    for name, array in feeds.items():
        message.inputs.add(name=name, datatype=datatypes.datatype(array), shape=array.shape)
        message.raw_input_contents.append(bytes(datatypes.to_bytes(array)))
    data: bytes = message.SerializeToString()
    return data
