"""The NVIDIA GPU that this process would use, asked of the CUDA driver."""

from __future__ import annotations

import importlib.util
from typing import Any

__all__ = ["cuda", "find_gpu"]


def find_gpu() -> tuple[str, str]:
    """Compute capability of the first GPU that CUDA sees (``sm89``), and why there is none.

    One of the two is empty. ``CUDA_VISIBLE_DEVICES`` is heeded; no context is made on the GPU.
    """
    if (
        importlib.util.find_spec("cuda") is None
        or importlib.util.find_spec("cuda.bindings") is None
    ):
        return "", "cuda-bindings is not installed"
    try:
        return _first_gpu()
    except RuntimeError as error:
        return "", str(error)


def _first_gpu() -> tuple[str, str]:
    from cuda.bindings import runtime

    (driver,) = cuda(runtime.cudaDriverGetVersion())
    if driver == 0:
        return "", "no NVIDIA driver is loaded"
    error, count = runtime.cudaGetDeviceCount()
    if error.value or not count:
        (text,) = cuda(runtime.cudaGetErrorString(error))
        return "", f"the NVIDIA driver (CUDA {_version(driver)}) shows no GPU: {text.decode()}"
    names = ("cudaDevAttrComputeCapabilityMajor", "cudaDevAttrComputeCapabilityMinor")
    found = [
        cuda(runtime.cudaDeviceGetAttribute(getattr(runtime.cudaDeviceAttr, name), 0))[0]
        for name in names
    ]
    return "sm{}{}".format(*found), ""


def cuda(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call of CUDA gives, without its error code.

    Raises:
        RuntimeError: the call failed.
    """
    error, *values = result
    if error.value:
        raise RuntimeError(f"CUDA says {error.name}")
    return tuple(values)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
