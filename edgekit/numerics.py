"""Which instruction set a bundle was made for, and what that means for int8 arithmetic.

x86 without VNNI multiplies bytes with ``vpmaddubsw``, which adds two products of uint8 and int8 in
a saturating int16: 255 * 127 * 2 does not fit, and results go wrong in silence. With weights in
+-63 the sum always fits. VNNI, AMX and Arm's instructions accumulate in 32 bits.

Sources: Intel SDM (VPMADDUBSW, VPDPBUSD); ONNX Runtime's documentation of ``reduce_range``;
Arm's SDOT/UDOT and SMULL/SADALP.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.errors import EdgekitError, did_you_mean

__all__ = ["TARGETS", "InstructionSet", "mismatch", "parse_target", "probe"]


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """What int8 kernels are made of on a class of machines.

    Attributes:
        name: as ``--target`` takes it.
        requires: CPU features (names of :class:`~edgekit.machine.Machine`) that a machine of this
            class has, all of one of these groups.
        saturates: whether full-range int8 weights overflow intermediate sums.
        bf16: whether it has bfloat16 dot products.
    """

    name: str
    requires: tuple[frozenset[str], ...]
    saturates: bool = False
    bf16: bool = False

    @property
    def levels(self) -> int:
        """Largest magnitude of a quantized weight that is safe."""
        return 63 if self.saturates else 127

    def runs_on(self, features: Iterable[str]) -> bool:
        """Whether a machine with these features belongs to this class."""
        present = set(features)
        return any(group <= present for group in self.requires)


def _any(*features: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset({feature}) for feature in features)


#: The best class first: a machine belongs to the first whose features it has.
TARGETS: tuple[InstructionSet, ...] = (
    InstructionSet("x86-amx", _any("AMX-INT8"), bf16=True),
    InstructionSet(
        "x86-vnni-bf16",
        (frozenset({"AVX512-VNNI", "AVX512-BF16"}), frozenset({"AVX-VNNI", "AVX512-BF16"})),
        bf16=True,
    ),
    InstructionSet("x86-vnni", _any("AVX512-VNNI", "AVX-VNNI")),
    InstructionSet("x86-avx512", _any("AVX-512"), saturates=True),
    InstructionSet("x86-avx2", _any("AVX2"), saturates=True),
    InstructionSet("arm-i8mm", _any("NEON I8MM")),
    InstructionSet("arm-dot", _any("NEON dot product")),
    InstructionSet("arm-neon", _any("NEON")),
)

#: A machine that is none of these: assume the least.
_UNKNOWN = InstructionSet("generic", (frozenset(),), saturates=True)
_BY_NAME = {target.name: target for target in (*TARGETS, _UNKNOWN)}


def probe(features: Iterable[str]) -> InstructionSet:
    """The class of a machine with these CPU features."""
    present = set(features)
    return next((target for target in TARGETS if target.runs_on(present)), _UNKNOWN)


def parse_target(name: str) -> InstructionSet:
    """The class of that name.

    Raises:
        EdgekitError: there is none; names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    hint = did_you_mean(name, _BY_NAME)
    raise EdgekitError(
        f"unknown target {name!r}{hint}", fix=f"Choose from {', '.join(_BY_NAME)} or native"
    )


def mismatch(made_for: InstructionSet, features: Iterable[str], precisions: Iterable[str]) -> str:
    """Why artifacts may compute something else on a machine with these features, or "".

    Args:
        made_for: what the bundle was made for.
        features: CPU features of the machine that runs it.
        precisions: precisions of the artifacts that will run.
    """
    here = probe(features)
    used = set(precisions)
    if any("int8" in p for p in used) and here.saturates and not made_for.saturates:
        return (
            f"int8 weights were quantized for {made_for.name}, whose sums cannot overflow; this "
            f"machine is {here.name}, where they can, and accuracy may be lost"
        )
    if any("bf16" in p for p in used) and made_for.bf16 and not here.bf16:
        return f"bfloat16 was chosen on {made_for.name}; {here.name} has to emulate it, slowly"
    return ""
