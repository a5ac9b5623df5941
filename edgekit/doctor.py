"""What this machine can do: processor, GPUs, runtimes, builders."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from edgekit import runtimes
from edgekit.machine import Machine, this_machine
from edgekit.numerics import probe

__all__ = ["Diagnosis", "Part", "diagnose"]

#: Part, module that must be importable, distribution, what to install.
_PARTS = (
    ("PyTorch export", "torch", "torch", "pip install 'edgekit[torch]'"),
    ("PyTorch export", "onnxscript", "onnxscript", "pip install 'edgekit[torch]'"),
    ("OpenVINO export", "openvino", "openvino", "pip install 'edgekit[openvino]'"),
    ("ncnn export", "pnnx", "pnnx", "pip install 'edgekit[pnnx]'"),
    ("LiteRT export", "litert_torch", "litert-torch", "pip install 'edgekit[litert-torch]'"),
    ("TensorRT-RTX engines", "tensorrt_rtx", "tensorrt-rtx", "pip install 'edgekit[tensorrt-rtx]'"),
    ("serve", "fastapi", "fastapi", "pip install 'edgekit[serve]'"),
)

_PCI_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing edgekit can use.

    Attributes:
        name: what it is for.
        package: what provides it.
        usable: whether it can be used here.
        version: installed version, None when there is none.
        reason: why it is not usable; empty when it is.
        install: the command that mends it; empty when nothing is to be mended.
    """

    name: str
    package: str
    usable: bool
    version: str | None
    reason: str
    install: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The whole picture.

    Attributes:
        machine: processor, memory, system.
        target: its class, as ``edgekit compress --target`` takes it.
        int8: what its instruction sets mean for int8 models, in one sentence.
        gpus: names of the GPUs found.
        parts: runtimes first, then what builds and serves.
    """

    machine: Machine
    target: str
    int8: str
    gpus: tuple[str, ...]
    parts: tuple[Part, ...]


def diagnose() -> Diagnosis:
    """Look at this machine without importing any of the engines."""
    machine = this_machine()
    parts = [*map(_runtime, runtimes.names()), *(_part(*entry) for entry in _PARTS)]
    target = probe(machine.features).name
    return Diagnosis(machine, target, _int8(machine.features), _gpus(), tuple(parts))


def _runtime(name: str) -> Part:
    status = runtimes.get(name).status()
    return Part(
        f"run on {name}", name, status.usable, status.version, status.reason, status.install
    )


def _part(name: str, module: str, package: str, install: str) -> Part:
    if importlib.util.find_spec(module) is None:
        reason = f"{package} is not installed"
        return Part(name, package, usable=False, version=None, reason=reason, install=install)
    version = importlib.metadata.version(package)
    return Part(name, package, usable=True, version=version, reason="", install="")


def _int8(features: tuple[str, ...]) -> str:
    """What the instruction sets mean for int8 inference.

    Sources: Intel's VNNI and AMX and Arm's dot-product instruction descriptions; ONNX Runtime's
    quantization documentation on saturation without VNNI.
    """
    if any(name.startswith("AMX-INT8") for name in features):
        return "AMX: int8 matrix tiles, the largest gain over fp32 that a CPU offers."
    if "AVX512-VNNI" in features or "AVX-VNNI" in features:
        return "VNNI: int8 products are exact and several times as fast as fp32."
    if "NEON I8MM" in features or "NEON dot product" in features:
        return "Dot-product instructions: int8 is exact and faster than fp32."
    if "AVX2" in features:
        return "No VNNI: u8 x s8 products can saturate in 16 bits, and int8 is seldom faster."
    return "No int8 instructions known here: int8 saves memory, seldom time."


def _gpus() -> tuple[str, ...]:
    return (*_nvidia(), *_drm())


def _nvidia() -> list[str]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = "--query-gpu=name,compute_cap,driver_version,memory.total"
    done = subprocess.run(
        [tool, query, "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return []
    return [f"NVIDIA {line.strip()}" for line in done.stdout.splitlines() if line.strip()]


def _drm() -> list[str]:
    """Graphics cards the kernel knows, except NVIDIA's, which nvidia-smi tells more about."""
    found = []
    for vendor in sorted(Path("/sys/class/drm").glob("card[0-9]/device/vendor")):
        name = _PCI_VENDORS.get(vendor.read_text().strip())
        if name is not None and name != "NVIDIA":
            found.append(f"{name} GPU ({vendor.parent.parent.name})")
    return found
