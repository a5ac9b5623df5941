"""Answers kept by what was asked, so that equal requests are computed once.

Each loaded bundle has a cache of its own, which goes when the bundle does: an answer is never given
for another model, version or revision. Only answers are kept, never failures. Equal requests that
come while the first of them still runs are computed, too.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

import numpy as np

from edgekit.serve.statistics import Stages, Statistics
from edgekit.spec import Feeds, Outputs, TensorSpec

__all__ = ["ResponseCache"]

#: Bytes that an entry takes beside its outputs: key, dictionary, array headers.
_OVERHEAD = 512

#: Inputs of more bytes are hashed in a thread: the event loop would stand still for a millisecond.
_LARGE = 2**20


class ResponseCache:
    """The least recently used answers go when there are too many bytes of them.

    Args:
        limit: bytes of all answers together.
        identity: what computes them: model, version, sha256 of the artifact.
        inputs: of the model.
        statistics: where hits and misses are counted. A miss takes the time of looking and keeping.
    """

    def __init__(
        self,
        limit: int,
        identity: Sequence[str],
        inputs: Sequence[TensorSpec],
        statistics: Statistics,
    ) -> None:
        self._limit = limit
        self._hash = blake2b("\0".join(identity).encode(), digest_size=32)
        self._names = sorted(spec.name for spec in inputs)
        self._statistics = statistics
        self._kept: OrderedDict[bytes, Outputs] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def answer(
        self, feeds: Feeds, compute: Callable[[], Awaitable[tuple[Outputs, Stages]]]
    ) -> tuple[Outputs, Stages]:
        """The outputs that are kept for ``feeds``, or else those that ``compute`` gives.

        Args:
            feeds: checked against the model's inputs.
            compute: computes them.

        Returns:
            Outputs, read-only where they were kept, and how long what took; a batch of 0 says that
            nothing was computed, the time is then all in the queue.
        """
        start = time.perf_counter_ns()
        large = sum(array.nbytes for array in feeds.values()) > _LARGE
        key = await asyncio.to_thread(self._key, feeds) if large else self._key(feeds)
        kept = self._kept.get(key)
        looked = time.perf_counter_ns() - start
        if kept is not None:
            self._kept.move_to_end(key)
            self._statistics.cache_hit.add(looked)
            return dict(kept), Stages(queue=looked)
        outputs, stages = await compute()
        back = time.perf_counter_ns()
        self._keep(key, outputs)
        self._statistics.cache_miss.add(looked + time.perf_counter_ns() - back)
        return outputs, stages

    def _key(self, feeds: Feeds) -> bytes:
        """Equal for equal names, dtypes, shapes and bytes, in whatever order and layout."""
        digest = self._hash.copy()
        for name in self._names:
            array = np.ascontiguousarray(feeds[name])
            digest.update(f"\0{name}\0{array.dtype}{feeds[name].shape}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.digest()

    def _keep(self, key: bytes, outputs: Outputs) -> None:
        size = _size(outputs)
        if size > self._limit or key in self._kept:
            return
        self._kept[key] = {name: _frozen(array) for name, array in outputs.items()}
        self.size += size
        while self.size > self._limit:
            _, oldest = self._kept.popitem(last=False)
            self.size -= _size(oldest)


def _size(outputs: Outputs) -> int:
    return _OVERHEAD + sum(array.nbytes for array in outputs.values())


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only copy: the original may be a part of a whole batch, and is the caller's."""
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy
