"""What this machine is, as far as it changes what a model computes or how fast."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

__all__ = ["Machine", "peak_resident", "resident", "this_machine"]

#: Instruction sets that decide which integer and half-precision kernels an engine picks, with
#: the names Linux gives them in /proc/cpuinfo (x86 "flags", Arm "Features").
_FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "NEON I8MM",
    "fphp": "NEON FP16",
    "sve": "SVE",
}


class Machine(BaseModel):
    """Where something was measured.

    Attributes:
        cpu: the processor's own name.
        features: instruction sets that matter to inference engines, in :data:`_FEATURES` names.
        cores: processors this process may use.
        memory_bytes: physical memory.
        system: operating system and architecture.
        python: Python version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    features: tuple[str, ...]
    cores: int
    memory_bytes: int
    system: str
    python: str


@cache
def this_machine() -> Machine:
    """Describe the machine this process runs on."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return Machine(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        features=tuple(label for flag, label in _FEATURES.items() if flag in flags),
        cores=_cores(),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=sys.version.split()[0],
    )


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process holds, this one by default; 0 where nobody can say."""
    return _memory("VmRSS:", pid)


def peak_resident() -> int:
    """The most bytes of memory that this process ever held; 0 where nobody can say."""
    return _memory("VmHWM:")


def _memory(field: str, pid: int | None = None) -> int:
    try:
        text = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith(field)), f"{field} 0 kB")
    return int(line.split()[1]) * 1024


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}
