from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import BundleError, RuntimeUnavailableError
from tests.conftest import ARTIFACTS


def _files(path: Path) -> list[Path]:
    return [file for file in sorted(path.rglob("*")) if file.is_file()]


def test_a_good_bundle_opens(built: Path) -> None:
    manifest = Bundle.open(built).manifest
    assert manifest.name == "residual"
    assert {a.id for a in manifest.artifacts} == ARTIFACTS


def test_every_file_is_listed(built: Path) -> None:
    manifest = Bundle.open(built).manifest
    listed = {e.path for a in manifest.artifacts for e in a.files}
    listed |= {e.path for e in manifest.extras} | {"bundle.json", "bundle.json.sha256"}
    assert {file.relative_to(built).as_posix() for file in _files(built)} == listed


def test_one_flipped_byte_in_any_file_is_refused(bundle_copy: Path) -> None:
    for file in _files(bundle_copy):
        good = file.read_bytes()
        middle = len(good) // 2
        file.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
        with pytest.raises(BundleError) as caught:
            Bundle.open(bundle_copy)
        assert "\n" not in str(caught.value)
        file.write_bytes(good)
    Bundle.open(bundle_copy)


def test_any_missing_file_is_named(bundle_copy: Path) -> None:
    for file in _files(bundle_copy):
        good = file.read_bytes()
        file.unlink()
        with pytest.raises(BundleError, match=file.name.split(".")[0]):
            Bundle.open(bundle_copy)
        file.write_bytes(good)


def test_a_truncated_manifest_is_refused(bundle_copy: Path) -> None:
    manifest = bundle_copy / "bundle.json"
    manifest.write_bytes(manifest.read_bytes()[:-100])
    with pytest.raises(BundleError, match="not valid JSON"):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize(
    ("version", "advice"), [(99, "Upgrade edgekit"), (1, "Build the bundle again")]
)
def test_another_schema_version_says_what_to_do(
    bundle_copy: Path, version: int, advice: str
) -> None:
    manifest = bundle_copy / "bundle.json"
    data = json.loads(manifest.read_text())
    data["schema_version"] = version
    manifest.write_text(json.dumps(data))
    with pytest.raises(BundleError, match=f"schema version {version}.*{advice}"):
        Bundle.open(bundle_copy)


def test_a_path_out_of_the_bundle_is_refused(bundle_copy: Path) -> None:
    secret = bundle_copy.parent / "secret"
    secret.write_text("x")
    inside = bundle_copy / "labels.txt"
    inside.unlink()
    inside.symlink_to(secret)
    with pytest.raises(BundleError, match="points outside"):
        Bundle.open(bundle_copy)


def test_the_seal_is_what_sha256sum_reads(built: Path) -> None:
    subprocess.run(["sha256sum", "-c", "bundle.json.sha256"], cwd=built, check=True)  # noqa: S607


def test_the_manifest_is_strict_json(built: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads((built / "bundle.json").read_text(), parse_constant=refuse)


def test_selected_defaults_to_the_fastest_runtime(bundle: Bundle) -> None:
    assert bundle.selected().runtime == bundle.manifest.decisions[0].runtime
    assert bundle.selected("openvino").runtime == "openvino"
    with pytest.raises(RuntimeUnavailableError, match="only for"):
        bundle.selected("tensorrt-rtx")
