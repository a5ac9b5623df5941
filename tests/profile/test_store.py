"""Profiles on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.errors import OutputError, ProfileError
from edgekit.machine import this_machine
from edgekit.profile import store
from edgekit.profile.records import Profile, Result
from edgekit.profile.samples import Samples


def profile(created: str = "2026-01-01T00:00:00+00:00", **fields: object) -> Profile:
    samples = Samples(
        artifact="onnxruntime-fp32",
        runtime="onnxruntime",
        run="r",
        shapes={"x": (1, 2)},
        threads=1,
        warmup=1,
        latencies_ns=(1, 2, 3),
        machine=this_machine(),
        started=created,
    )
    made = Profile(
        edgekit="0",
        created=created,
        model="m",
        machine=this_machine(),
        results=(Result(samples=samples),),
    )
    return made.model_copy(update=fields)


@pytest.mark.parametrize("suffix", [".json", ".npz", ".parquet"])
def test_what_is_saved_is_loaded_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p{suffix}"
    store.save(profile(), path)
    assert store.load(path) == profile()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ProfileError):
        store.load(path)


def test_profiles_lie_beside_their_bundle(tmp_path: Path) -> None:
    path = store.new_path(tmp_path / "x.edge")
    assert path.parent == tmp_path / "x-profiles"
    assert path.suffix == ".json"
    assert path.parent.is_dir()


def test_runs_that_begin_within_a_millisecond_get_names_in_their_order(tmp_path: Path) -> None:
    paths = []
    for _ in range(50):
        paths.append(store.new_path(tmp_path / "x.edge"))
        paths[-1].touch()
    assert len(set(paths)) == 50
    assert paths == sorted(paths)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a profile"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "Field required"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(ProfileError, match=told) as caught:
        store.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        store.load(tmp_path / "p.json")


def test_history_is_in_the_order_of_time_and_leaves_out_what_is_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(profile("2026-02-01T00:00:00+00:00"), tmp_path / "a.json")
    store.save(profile("2026-01-01T00:00:00+00:00"), tmp_path / "b.json")
    (tmp_path / "c.json").write_text("{")
    assert [p.created[:7] for p in store.history(tmp_path)] == ["2026-01", "2026-02"]
    assert "c.json" in caplog.text


def test_the_newest_profile_of_a_bundle_measured_the_artifacts_that_it_has(
    bundle_copy: Path,
) -> None:
    bundle = Bundle.open(bundle_copy)
    assert store.newest(bundle) is None
    artifact = bundle.manifest.artifacts[0]
    own = {artifact.id: artifact.files[0].sha256}
    store.save(profile(artifacts=own), store.new_path(bundle.path))
    store.save(profile(artifacts={artifact.id: "0" * 64}), store.new_path(bundle.path))
    found = store.newest(bundle)
    assert found is not None
    assert found.artifacts == own


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            store.new_path(tmp_path / "x.edge")
    finally:
        tmp_path.chmod(0o700)


def test_what_cannot_be_written_in_its_place_is_written_aside(tmp_path: Path) -> None:
    written = store.save_somewhere(profile(), tmp_path / "missing" / "p.json")
    assert written != tmp_path / "missing" / "p.json"
    assert store.load(written) == profile()
    assert json.loads(written.read_text())["model"] == "m"
