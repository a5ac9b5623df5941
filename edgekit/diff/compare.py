"""Compare what two artifacts compute inside, layer by layer.

Every tensor that both have is compared over all samples, twice: as the second artifact computes it,
and as each of its layers does by itself, given what the first computed up to there. So the noise
that a layer adds is told apart from what it passes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from edgekit.diff.side import Side
from edgekit.errors import SpecError
from edgekit.exporters.graph import DEQUANTIZED
from edgekit.fidelity import FidelityMeter
from edgekit.runtimes import Layer, Session, given_name
from edgekit.spec import Array, Feeds, Outputs, TensorSpec

__all__ = ["Difference", "LayerDifference", "compare"]

#: Own noise that only the order of sums makes, in dB; less than that is never a fault.
_NEGLIGIBLE = 80.0
#: Where more than this share of all layers adds noise, noise is what the precision makes, and a
#: fault is so many dB beyond the median of these.
_MANY, _FAR_MORE = 0.25, 15.0


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One tensor that both artifacts have.

    Attributes:
        tensor: its name in the first artifact.
        op: type of the operator that computes it in the second.
        node: that operator's name.
        module: the PyTorch module it comes from, as path and class; empty where unknown.
        sqnr_db: signal power over the power of the difference, in dB; infinite when equal.
        before_db: the lowest ``sqnr_db`` of what it is computed from.
        own_db: how close it is when the layer reads what the first artifact computed, in dB as
            above: its own noise.
        max_abs: the largest absolute difference.
        problem: why it could not be compared; empty where it could.
    """

    tensor: str
    op: str
    node: str
    module: str
    sqnr_db: float
    before_db: float
    own_db: float
    max_abs: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two artifacts compared.

    Attributes:
        layers: every tensor that both have, in the order of the second's computation.
        guilty: the first that adds far more noise than layers usually do; None when none does.
        samples: how many were run.
        unmatched: how many of the second's layers the first does not have.
    """

    layers: tuple[LayerDifference, ...]
    guilty: LayerDifference | None
    samples: int
    unmatched: int

    def ranked(self) -> list[LayerDifference]:
        """The worst first, by the noise that each adds."""
        return sorted(self.layers, key=lambda layer: layer.own_db)


def compare(first: Side, second: Side, feeds: Sequence[Feeds]) -> Difference:
    """Run both on the same samples and compare all that they have in common.

    Args:
        first: the artifact that is thought to be right.
        second: the other one.
        feeds: the samples.

    Raises:
        SpecError: they take different inputs, or have no tensor in common.
        RuntimeUnavailableError: a runtime cannot be used here, or refuses its file.
    """
    with first.load() as one:
        with second.load() as other:
            _check_inputs(one, other)
            layers = other.layers
            pairs = _pairs(one, other, feeds)
        if not pairs:
            raise SpecError(
                "have no tensor in common",
                where=f"{first.name} and {second.name}",
                fix="Compare artifacts that were made from one model",
            )
        matches = {tensor: pair.closest() for tensor, pair in pairs.items()}
        own = _own_noise(one, second, feeds, matches)
    modules = {**second.modules, **first.modules}
    compared = tuple(_differences(layers, matches, own, modules))
    unmatched = len(layers) - len(compared)
    return Difference(compared, _guilty(compared), len(feeds), unmatched)


def _pairs(one: Session, other: Session, feeds: Sequence[Feeds]) -> dict[str, _Pair]:
    """What both compute, each by itself, for every tensor of the second that has counterparts."""
    counterparts = _counterparts(one, other)
    pairs: dict[str, _Pair] = {}
    for sample in feeds:
        wanted, got = {**sample, **one.run(sample)}, other.run(sample)
        for tensor in counterparts.keys() & got.keys():  # the rest are integers
            pairs.setdefault(tensor, _Pair(*counterparts[tensor])).add(wanted, got[tensor])
    return pairs


def _own_noise(
    one: Session, second: Side, feeds: Sequence[Feeds], matches: Mapping[str, _Match]
) -> dict[str, FidelityMeter]:
    """What each layer of the second makes of what the first computed up to it.

    The first runs again: everything inside it for all samples would not fit in memory.
    """
    given = [match.given(tensor) for tensor, match in matches.items() if match.same_shape]
    meters: dict[str, FidelityMeter] = defaultdict(FidelityMeter)
    with second.load(given) as alone:
        for sample in feeds:
            wanted = {**sample, **one.run(sample)}
            fed = {
                given_name(spec.name): wanted[matches[spec.name].tensor].astype(spec.dtype)
                for spec in given
            }
            got = alone.run({**sample, **fed})
            for tensor, match in matches.items():
                if not match.problem:
                    right = wanted[match.tensor]
                    meters[tensor].add(right, got[tensor].reshape(right.shape))
    return meters


def _check_inputs(first: Session, second: Session) -> None:
    names, others = ({spec.name for spec in one.inputs} for one in (first, second))
    if names != others:
        raise SpecError(
            f"take different inputs: {', '.join(sorted(names))} and {', '.join(sorted(others))}",
            where="the two artifacts",
            fix="Compare artifacts that were made from one model",
        )


def _counterparts(first: Session, second: Session) -> dict[str, tuple[list[str], bool]]:
    """For each tensor of the second, those of the first, or the inputs, that it is compared with.

    What was quantized and dequantized is compared with what went in, where the first has it in
    float only. Such a pair may stand before a reshape that it stood behind: then (True) only the
    values have to be the same, in order.
    """
    known = {name: layer.tensor for layer in first.layers for name in layer.names}
    known |= {spec.name: spec.name for spec in first.inputs}
    by_tensor = {layer.tensor: layer for layer in second.layers}
    found = {}
    for layer in second.layers:
        names = layer.names
        moved = not any(name in known for name in names)
        if moved:
            names = _quantized(layer, known, by_tensor)
        matches = dict.fromkeys(known[name] for name in names if name in known)
        if matches and layer.names:
            found[layer.tensor] = list(matches), moved
    return found


def _quantized(
    layer: Layer, known: Collection[str], layers: Mapping[str, Layer]
) -> tuple[str, ...]:
    """The names of what this layer is the quantized and dequantized form of; none otherwise.

    By its own name first: an activation may be left out where clipping to the range does the same,
    and then what is quantized is the input of that.
    """
    plain = tuple(name.removesuffix(DEQUANTIZED) for name in layer.names)
    if any(name in known for name in plain):
        return plain
    source = layer.inputs[0]
    if layer.op == "DequantizeLinear":
        quantize = layers.get(source)
        if quantize is None or quantize.op != "QuantizeLinear":
            return ()
        source = quantize.inputs[0]
    elif layer.op != "FakeQuantize":
        return ()
    return layers[source].names if source in layers else (source,)


@dataclass(frozen=True, slots=True)
class _Match:
    """The tensor of the first artifact that a tensor of the second is compared with."""

    tensor: str
    dtype: str
    rank: int
    sqnr_db: float
    max_abs: float
    same_shape: bool
    problem: str

    def given(self, name: str) -> TensorSpec:
        """As an input of the second artifact."""
        return TensorSpec(name, self.dtype, tuple(f"{name}:{axis}" for axis in range(self.rank)))


class _Pair:
    """A tensor of the second artifact with its counterparts in the first.

    An engine that merges an activation into the quantization behind it has one tensor for both
    sides of the activation: the closest counts.
    """

    def __init__(self, counterparts: Sequence[str], moved: bool) -> None:  # noqa: FBT001
        self._moved = moved
        self._same_shape = True
        self._meters = {name: FidelityMeter() for name in counterparts}
        self._problems: dict[str, str] = {}
        self._kind = ("", 0)

    def add(self, wanted: Outputs, got: Array) -> None:
        """Compare one sample."""
        self._kind = got.dtype.name, got.ndim
        for name, meter in self._meters.items():
            right, made = wanted[name], got
            if self._moved and made.size == right.size:
                self._same_shape &= made.shape == right.shape
                made = made.reshape(right.shape)
            problem = _problem(right, made)
            if problem:
                self._problems.setdefault(name, problem)
            else:
                meter.add(right, made)

    def closest(self) -> _Match:
        found = []
        for name, meter in self._meters.items():
            result, problem = meter.result(), self._problems.get(name, "")
            sqnr_db = -np.inf if problem else result.sqnr_db
            same_shape = self._same_shape and not problem
            found.append(_Match(name, *self._kind, sqnr_db, result.max_abs, same_shape, problem))
        return max(found, key=lambda match: match.sqnr_db)


def _problem(wanted: Array, got: Array) -> str:
    if wanted.shape != got.shape:
        return f"shape {list(got.shape)} instead of {list(wanted.shape)}"
    if np.isfinite(wanted).all() and not np.isfinite(got).all():
        return "NaN or infinity where there was none"
    return ""


def _differences(
    layers: Sequence[Layer],
    matches: Mapping[str, _Match],
    own: Mapping[str, FidelityMeter],
    modules: Mapping[str, str],
) -> Iterator[LayerDifference]:
    """In order; what a layer without a counterpart reads counts for those behind it."""
    lowest: dict[str, float] = {}
    places: dict[str, str] = {}
    for layer in layers:
        before = min((lowest.get(name, np.inf) for name in layer.inputs), default=np.inf)
        nearest = next((places[name] for name in layer.inputs if name in places), "")
        place = next((modules[name] for name in layer.names if name in modules), nearest)
        places[layer.tensor] = place
        if layer.tensor not in matches:
            lowest[layer.tensor] = before
            continue
        match = matches[layer.tensor]
        lowest[layer.tensor] = match.sqnr_db
        yield LayerDifference(
            tensor=match.tensor,
            op=layer.op,
            node=layer.node,
            module=place,
            sqnr_db=match.sqnr_db,
            before_db=before,
            own_db=-np.inf if match.problem else own[layer.tensor].result().sqnr_db,
            max_abs=match.max_abs,
            problem=match.problem,
        )


def _guilty(layers: Sequence[LayerDifference]) -> LayerDifference | None:
    """The first that adds noise where few do, or far more than others where many do."""
    noisy = [layer for layer in layers if layer.own_db < _NEGLIGIBLE]
    limit = _NEGLIGIBLE
    if len(noisy) > len(layers) * _MANY:
        limit = median(layer.own_db for layer in noisy) - _FAR_MORE
    return next((layer for layer in layers if layer.own_db < limit), None)
