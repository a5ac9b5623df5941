"""Memory on the GPU, through NVIDIA's own bindings of the CUDA runtime."""

from __future__ import annotations

from edgekit.gpu import cuda
from edgekit.spec import Array

__all__ = ["CudaMemory"]


class CudaMemory:
    """A stream, and buffers by name that grow when a larger array comes.

    Attributes:
        stream: the handle of the stream that copies, and whatever is to be in order with them,
            run on.

    Raises:
        RuntimeError: CUDA says no: the GPU is out of memory, say.
    """

    def __init__(self) -> None:
        from cuda.bindings import runtime

        self._cuda = runtime
        (stream,) = cuda(runtime.cudaStreamCreate())
        self.stream = int(stream)
        self._buffers: dict[str, tuple[int, int]] = {}

    def address(self, name: str, size: int) -> int:
        """The address of a buffer of at least ``size`` bytes; what is in it is not kept."""
        address, room = self._buffers.get(name, (0, 0))
        if size <= room:
            return address
        if address:
            del self._buffers[name]
            cuda(self._cuda.cudaFree(address))
        (made,) = cuda(self._cuda.cudaMalloc(size))
        self._buffers[name] = int(made), size
        return int(made)

    def upload(self, name: str, array: Array) -> int:
        """Copy a C-contiguous array, which must not change until :meth:`wait`; the address."""
        address = self.address(name, max(array.nbytes, 1))
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        cuda(
            self._cuda.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, self.stream)
        )
        return address

    def download(self, name: str, array: Array) -> None:
        """Fill a C-contiguous array from the buffer, by :meth:`wait` at the latest."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        address, _ = self._buffers[name]
        cuda(
            self._cuda.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, self.stream)
        )

    def wait(self) -> None:
        """Until everything on the stream is done."""
        cuda(self._cuda.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        """Free everything."""
        for address, _ in self._buffers.values():
            cuda(self._cuda.cudaFree(address))
        self._buffers.clear()
        cuda(self._cuda.cudaStreamDestroy(self.stream))
