"""Settings that a bundle keeps."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.defaults import defaults_of, options_for, write_defaults
from edgekit.errors import BundleError
from edgekit.machine import this_machine
from edgekit.manifest import Defaults
from edgekit.profile.bundle import profile_bundle
from edgekit.serve.config import ModelConfig
from tests.conftest import SHAPE
from tests.daemon import EDGEKIT

HERE = {"cpu": this_machine().cpu, "cores": this_machine().cores}
CHOSEN = Defaults(threads=1, streams=2, batch=4, goal="throughput", **HERE)


def test_what_is_written_is_read_again_and_the_rest_is_as_it_was(bundle_copy: Path) -> None:
    before = Bundle.open(bundle_copy)
    assert not write_defaults(before, {"onnxruntime": CHOSEN})
    after = Bundle.open(bundle_copy)  # every hash is checked
    assert defaults_of(after, "onnxruntime") == CHOSEN
    assert defaults_of(after, "openvino") == Defaults()
    assert after.manifest.model_copy(update={"defaults": {}}) == before.manifest
    write_defaults(after, {"openvino": CHOSEN})
    assert set(Bundle.open(bundle_copy).manifest.defaults) == {"onnxruntime", "openvino"}


def test_a_signature_is_told_and_goes(bundle_copy: Path) -> None:
    (bundle_copy / "bundle.json.sig").write_bytes(b"x" * 64)
    assert write_defaults(Bundle.open(bundle_copy), {"onnxruntime": CHOSEN})
    assert not (bundle_copy / "bundle.json.sig").exists()


def test_settings_of_another_machine_are_not_used(bundle_copy: Path) -> None:
    other = CHOSEN.model_copy(update={"cores": 64})
    write_defaults(Bundle.open(bundle_copy), {"onnxruntime": other})
    assert defaults_of(Bundle.open(bundle_copy), "onnxruntime") == Defaults()


def test_a_field_that_is_not_known_asks_for_a_newer_edgekit(bundle_copy: Path) -> None:
    manifest = json.loads((bundle_copy / "bundle.json").read_text())
    (bundle_copy / "bundle.json").write_text(json.dumps({**manifest, "later": 1}))
    with pytest.raises(BundleError, match=r"says later, which .* Upgrade edgekit"):
        Bundle.open(bundle_copy)


def test_they_are_how_an_artifact_is_loaded(bundle_copy: Path) -> None:
    write_defaults(Bundle.open(bundle_copy), {"onnxruntime": CHOSEN})
    opened = Bundle.open(bundle_copy)
    options = options_for(opened, "onnxruntime")
    assert options.threads == 1
    artifact = opened.file(opened.selected("onnxruntime"))
    with runtimes.require("onnxruntime").load(artifact, options) as session:
        assert session.inputs


def test_they_are_how_a_profile_is_taken_unless_it_is_told_otherwise(bundle_copy: Path) -> None:
    write_defaults(Bundle.open(bundle_copy), {"onnxruntime": CHOSEN})
    opened = Bundle.open(bundle_copy)
    found = profile_bundle(opened, runtime="onnxruntime", seconds=0.1).results[0]
    settings = found.settings
    assert (settings.threads, settings.streams, settings.batch) == (1, 2, 4)
    assert found.samples.shapes["image"][0] == 4
    told = profile_bundle(opened, runtime="onnxruntime", seconds=0.1, batch=1, streams=1)
    assert (told.results[0].settings.streams, told.results[0].settings.batch) == (1, 1)


def test_a_configuration_wins_over_them() -> None:
    assert ModelConfig().with_defaults(CHOSEN).instances == 2
    told = ModelConfig(instances=1, max_batch=16, threads=3).with_defaults(CHOSEN)
    assert (told.instances, told.max_batch, told.threads) == (1, 16, 3)
    assert ModelConfig(cores=(0, 1)).with_defaults(CHOSEN).threads is None
    assert ModelConfig(target_p99_ms=5).with_defaults(CHOSEN).max_batch == 32


def _answers(url: str, samples: int) -> int:
    """Samples in the answer to a request of so many."""
    data = np.zeros((samples, *SHAPE), np.float32).ravel().tolist()
    image = {"name": "image", "datatype": "FP32", "shape": [samples, *SHAPE], "data": data}
    request = urllib.request.Request(
        f"{url}/v2/models/residual/infer", json.dumps({"inputs": [image]}).encode()
    )
    with urllib.request.urlopen(request) as answer:
        return int(json.load(answer)["outputs"][0]["shape"][0])


def _served(bundle: Path, samples: int, *options: str) -> str:
    """What a server logs that loads the bundle and answers one request."""
    command = [*EDGEKIT, "serve", str(bundle), "--port", "0", "--log-format", "json", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        told = ""
        while not (found := re.search(r"http://[\d.:]+", told)):
            told += (line := server.stderr.readline())
            assert line, told
        try:
            assert _answers(found[0], samples) == samples
        finally:
            server.terminate()
    return told


def test_a_server_uses_them_unless_it_is_told_otherwise(bundle_copy: Path) -> None:
    write_defaults(Bundle.open(bundle_copy), {"onnxruntime": CHOSEN})
    own = ("--runtime", "onnxruntime")
    told = _served(bundle_copy, 3, *own)
    assert "default for onnxruntime is used: threads 1, instances 2, max_batch 4" in told
    told = _served(bundle_copy, 12, *own, "--instances", "1", "--max-batch", "16")
    assert 'default for onnxruntime is used: threads 1"' in told
