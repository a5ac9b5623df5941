"""The layers of the artifacts of a bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.diff.side import onnx_modules
from edgekit.errors import RuntimeUnavailableError
from edgekit.manifest import Artifact
from edgekit.profile.layers.measure import measure_layers
from edgekit.profile.records import LayerTimes
from edgekit.profile.runner import Timed
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds

__all__ = ["bundle_layers"]

_log = logging.getLogger(__name__)


def bundle_layers(
    bundle: Bundle,
    artifacts: Sequence[Artifact],
    entries: Sequence[Timed],
    feeds: Feeds,
    options: SessionOptions,
    *,
    seconds: float = 2.0,
) -> list[LayerTimes | None]:
    """Of each artifact, in order; None, and a logged reason, where its runtime does not tell.

    Args:
        bundle: that they are of.
        artifacts: to look at.
        entries: their sessions, in the same order.
        feeds: of every inference.
        options: that the sessions were loaded with.
        seconds: for each artifact.
    """
    found: list[LayerTimes | None] = []
    for artifact, entry in zip(artifacts, entries, strict=True):
        try:
            times = measure_layers(
                runtimes.require(artifact.runtime),
                bundle.file(artifact),
                options,
                entry.session,
                entry.feeds or feeds,
                _notes(bundle, artifact),
                seconds=seconds,
            )
        except RuntimeUnavailableError as error:
            _log.info("no layers of %s: %s", artifact.id, error)
            times = None
        found.append(times)
    return found


def _notes(bundle: Bundle, artifact: Artifact) -> dict[str, str]:
    """What the bundle's own graph says of tensors and operators, by name.

    Nothing of an artifact of another PyTorch module: there the same name may mean another one.
    """
    return {} if artifact.reference is not None else onnx_modules(bundle.path / "model.onnx")
