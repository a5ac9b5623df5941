from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import RuntimeUnavailableError
from edgekit.manifest import Artifact
from edgekit.profile.remote.parts import Part, choose, extras_of


def _opened(part: Part, folder: Path) -> Bundle:
    stream = io.BytesIO()
    part.write(stream)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        tar.extractall(folder, filter="data")
    return Bundle.open(folder / part.bundle.path.name)


def _chosen(bundle: Bundle, runtime: str | None = None, artifact: str | None = None) -> list[str]:
    chosen = choose(bundle, runtime=runtime, artifact=artifact, gpu=False, board="pi@b")
    return [one.id for one in chosen]


def test_only_the_artifacts_that_are_wanted_are_sent(bundle: Bundle, tmp_path: Path) -> None:
    artifacts = choose(bundle, runtime="onnxruntime", artifact=None, gpu=False, board="b")
    sent = _opened(Part.of(bundle, artifacts), tmp_path)
    assert {one.id for one in sent.manifest.artifacts} == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert not list(sent.path.rglob("*.bin"))
    assert sent.selected("onnxruntime") in artifacts
    assert (sent.path / "reference.npz").is_file()


def test_one_artifact_is_the_choice_where_the_chosen_one_stays(
    bundle: Bundle, tmp_path: Path
) -> None:
    other = next(iter(bundle.manifest.decisions[0].rejected), "") or "onnxruntime-fp32"
    artifacts = choose(bundle, runtime=None, artifact=other, gpu=False, board="b")
    sent = _opened(Part.of(bundle, artifacts), tmp_path)
    assert sent.selected(artifacts[0].runtime).id == other


def test_shared_weights_are_sent_once(shared: Bundle, tmp_path: Path) -> None:
    sent = _opened(Part.of(shared, shared.manifest.artifacts), tmp_path)
    assert [one.id for one in sent.manifest.artifacts] == [
        one.id for one in shared.manifest.artifacts
    ]


def _as(bundle: Bundle, runtime: str) -> Bundle:
    """The bundle with artifacts of another runtime only."""
    first = bundle.manifest.artifacts[0]
    made: tuple[Artifact, ...] = (first.model_copy(update={"id": "x", "runtime": runtime}),)
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"artifacts": made}))


def test_engines_for_a_gpu_are_not_sent_where_there_is_none(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"for pi@b \(x: there is no NVIDIA GPU\)"):
        _chosen(_as(bundle, "tensorrt-rtx"))


def test_pytorch_is_installed_there_only_if_asked_for(bundle: Bundle) -> None:
    with pytest.raises(RuntimeUnavailableError, match="would install PyTorch there"):
        _chosen(_as(bundle, "executorch"))
    assert _chosen(_as(bundle, "executorch"), runtime="executorch") == ["x"]


def test_engines_are_installed_by_their_extras(bundle: Bundle) -> None:
    assert extras_of(bundle.manifest.artifacts) == ["openvino"]
