"""Which of ONNX Runtime's execution providers runs a model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnxruntime as ort

from edgekit.errors import RuntimeUnavailableError, nearest

__all__ = ["CPU", "find_provider", "require_provider"]

_SUFFIX = "ExecutionProvider"
CPU = f"CPU{_SUFFIX}"

#: Where a provider that a build may lack is to be had, by the provider's name in lower case.
_HOW: Mapping[str, str] = MappingProxyType(
    {
        "coreml": "Use the macOS or iOS package of onnxruntime",
        "cuda": "Run: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        "dml": "Run: pip uninstall onnxruntime && pip install onnxruntime-directml",
        "nnapi": "Use the Android package of onnxruntime",
        "openvino": "Run: pip uninstall onnxruntime && pip install onnxruntime-openvino",
        "qnn": "Run: pip uninstall onnxruntime && pip install onnxruntime-qnn",
        "tensorrt": "Run: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        "xnnpack": "Use the Android or iOS package of onnxruntime, or build it with --use_xnnpack",
    }
)


def find_provider(device: str | None) -> str:
    """The provider called ``device`` (``CUDA``, ``TensorRT``, ``CoreML``) in any case.

    Raises:
        RuntimeUnavailableError: there is no such provider, or this build of ONNX Runtime lacks it.
    """
    if device is None:
        return CPU
    known: dict[str, str] = {
        name.removesuffix(_SUFFIX).lower(): name for name in ort.get_all_providers()
    }
    built = ort.get_available_providers()
    wanted = known.get(device.lower())
    has = ", ".join(name.removesuffix(_SUFFIX) for name in built)
    if wanted is None:
        guess = nearest(device.lower(), known)
        hint = f", did you mean {known[guess].removesuffix(_SUFFIX)!r}" if guess else ""
        raise RuntimeUnavailableError(
            f"is no execution provider of ONNX Runtime{hint}",
            where=f"device {device!r}",
            fix=f"This build has {has}",
        )
    if wanted not in built:
        raise RuntimeUnavailableError(
            f"this build of ONNX Runtime {ort.__version__} has {has} only",
            where=f"device {device!r}",
            fix=_HOW.get(device.lower(), "Build ONNX Runtime with that execution provider"),
        )
    return wanted


def require_provider(session: ort.InferenceSession, provider: str) -> None:
    """See that the session did not fall back to the CPU, which ONNX Runtime does silently.

    Raises:
        RuntimeUnavailableError: it did.
    """
    if provider not in session.get_providers():
        raise RuntimeUnavailableError(
            "ONNX Runtime has it but cannot start it",
            where=f"device {provider.removesuffix(_SUFFIX)!r}",
            fix="Install its driver and libraries, in the versions that this ONNX Runtime wants",
        )
