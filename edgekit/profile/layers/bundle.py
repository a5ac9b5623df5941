"""The layers of an artifact of a bundle."""

from __future__ import annotations

import logging

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.diff.side import onnx_modules
from edgekit.errors import RuntimeUnavailableError
from edgekit.manifest import Artifact
from edgekit.profile.layers.measure import measure_layers
from edgekit.profile.records import LayerTimes
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds

__all__ = ["artifact_layers"]

_log = logging.getLogger(__name__)


def artifact_layers(
    bundle: Bundle,
    artifact: Artifact,
    feeds: Feeds,
    options: SessionOptions,
    *,
    seconds: float = 2.0,
) -> LayerTimes | None:
    """Of one artifact; None, and a logged reason, where its runtime does not tell.

    Args:
        bundle: that it is of.
        artifact: to look at.
        feeds: of every inference.
        options: how it is loaded.
        seconds: for all of it.

    Raises:
        OutputError: the runtime cannot write what it measures, on a full disk, say.
    """
    runtime = runtimes.require(artifact.runtime)
    file = bundle.file(artifact)
    try:
        with runtime.load(file, options) as session:
            return measure_layers(
                runtime, file, options, session, feeds, _notes(bundle, artifact), seconds=seconds
            )
    except RuntimeUnavailableError as error:
        _log.info("no layers of %s: %s", artifact.id, error)
    return None


def _notes(bundle: Bundle, artifact: Artifact) -> dict[str, str]:
    """What the bundle's own graph says of tensors and operators, by name.

    Nothing of an artifact of another PyTorch module: there the same name may mean another one.
    """
    return {} if artifact.reference is not None else onnx_modules(bundle.path / "model.onnx")
