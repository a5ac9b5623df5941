"""Versions, replacement and roll-back, with bundles whose answers tell them apart."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bundle import Bundle, hash_file, seal
from edgekit.serve.config import ModelConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.repository import Repository
from tests.serve.bundles import PLAIN, factor, put, run, started


def _model(**settings: Any) -> dict[str, ModelConfig]:
    return {"scale": PLAIN.model_copy(update=settings)}


def _states(repository: Repository) -> dict[str, str]:
    return {one["version"]: one["state"] for one in repository.index()}


def _damage(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"x")


def _reseal(bundle: Path, name: str) -> None:
    """Let the manifest tell the truth about a changed file."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    entry = hash_file(bundle, bundle / name).model_dump()
    for artifact in manifest["artifacts"]:
        artifact["files"] = [entry if f["path"] == name else f for f in artifact["files"]]
    manifest["extras"] = [entry if f["path"] == name else f for f in manifest["extras"]]
    seal(bundle, Bundle.open(bundle.parent / "good").manifest.model_validate(manifest))


def _compute_something_else(bundle: Path) -> None:
    wrong = bundle.parent / "wrong"
    shutil.copy(wrong / "model.onnx", bundle / "model.onnx")
    _reseal(bundle, "model.onnx")


def _fill_with_noise(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"this is no model, though its hash is right")
    _reseal(bundle, "model.onnx")


def _spoil_the_samples(bundle: Path) -> None:
    (bundle / "reference.npz").write_bytes(b"no samples, though their hash is right")
    _reseal(bundle, "reference.npz")


def _lose_the_manifest(bundle: Path) -> None:
    (bundle / "bundle.json").unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_damage, "model.onnx"),
        (_compute_something_else, "does not compute on this machine"),
        (_fill_with_noise, "model.onnx"),
        (_lose_the_manifest, "bundle.json"),
        (_spoil_the_samples, "cannot be read: "),
    ],
)
def test_a_bad_bundle_never_replaces_a_good_one(
    scales: dict[int, Path], tmp_path: Path, harm: Callable[[Path], None], reason: str
) -> None:
    async def test() -> None:
        place = put(scales[1], tmp_path / "models" / "scale.edge")
        for name, which in (("good", 2), ("wrong", 3), ("bad", 2)):
            shutil.copytree(scales[which], tmp_path / name)
        harm(tmp_path / "bad")
        async with started(tmp_path / "models") as repository:
            shutil.rmtree(place)
            shutil.copytree(tmp_path / "bad", place)
            with pytest.raises(ServeError, match=reason) as caught:
                await repository.load("scale")
            assert caught.value.status == 400
            assert await factor(repository, "scale") == 1
            (told,) = repository.index()
            assert told["state"] == "READY"
            assert reason in told["reason"]
            assert await repository.ready()
            put(scales[2], shutil.rmtree(place) or place)
            await repository.load("scale")
            assert await factor(repository, "scale") == 2
            assert repository.index()[0]["reason"] == ""

    run(test())


def test_a_bundle_that_fails_to_warm_up_never_replaces_a_good_one(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        place = put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path) as repository:
            put(scales[2], place)
            runs = 0
            kind = type(repository.find("scale")._workers[0].session)  # type: ignore[attr-defined]
            good = kind._run

            def breaks_down(self: Any, feeds: Any) -> Any:
                nonlocal runs
                runs += 1
                if runs > 2:  # the canary passes: the bundle stores two samples
                    raise RuntimeError("out of scratch memory")
                return good(self, feeds)

            with monkeypatch.context() as patch:
                patch.setattr(kind, "_run", breaks_down)
                with pytest.raises(ServeError, match=r"warmed up: .*out of scratch memory"):
                    await repository.load("scale")
            assert await factor(repository, "scale") == 1
            await repository.load("scale")
            assert await factor(repository, "scale") == 2

    run(test())


def test_a_bad_new_version_leaves_the_old_version(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "scale" / "1")
        async with started(tmp_path) as repository:
            _damage(put(scales[2], tmp_path / "scale" / "2"))
            with pytest.raises(ServeError, match=r"model\.onnx"):
                await repository.load("scale")
            assert await factor(repository, "scale") == 1
            assert _states(repository) == {"1": "READY", "2": "UNAVAILABLE"}
            put(scales[3], tmp_path / "scale" / "3")
            await repository.load("scale")
            assert await factor(repository, "scale") == 3
            assert _states(repository)["1"] == "UNAVAILABLE"

    run(test())


def test_a_start_with_a_bad_newest_version_serves_the_newest_good_one(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        for version in (1, 2, 3):
            put(scales[version], tmp_path / "scale" / str(version))
        _damage(tmp_path / "scale" / "3")
        async with started(tmp_path) as repository:
            assert await factor(repository, "scale") == 2
            assert _states(repository) == {"2": "READY", "3": "UNAVAILABLE"}

    run(test())


@pytest.mark.parametrize(
    ("settings", "loaded", "default"),
    [
        ({"versions": "latest"}, ["10"], 3),
        ({"versions": "all"}, ["1", "2", "10"], 3),
        ({"versions": ("1", "2")}, ["1", "2"], 2),
        ({"shadow": "10"}, ["2", "10"], 2),
        ({"shadow": "1"}, ["1", "10"], 3),
        ({"weights": {"1": 1.0, "2": 0.0}}, ["1", "2"], 1),
        ({"weights": {"1": 1.0}, "versions": ("2",), "shadow": "10"}, ["1", "2", "10"], 1),
    ],
)
def test_version_policies(
    scales: dict[int, Path],
    tmp_path: Path,
    settings: dict[str, Any],
    loaded: list[str],
    default: float,
) -> None:
    async def test() -> None:
        for version, which in (("1", 1), ("2", 2), ("10", 3)):
            put(scales[which], tmp_path / "scale" / version)
        async with started(tmp_path, _model(**settings)) as repository:
            assert list(repository.entries["scale"].loaded) == loaded
            assert await factor(repository, "scale") == default

    run(test())


def test_versions_that_are_not_there_are_told(scales: dict[int, Path], tmp_path: Path) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "scale" / "1")
        async with started(tmp_path, _model(versions=("7",))) as repository:
            with pytest.raises(ServeError, match=r"none of its versions .* it has 1"):
                await repository.load("scale")
            assert not await repository.ready()

    run(test())


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../scale", "scale/1", "a\0b", "-x", " "])
def test_names_that_are_no_names_are_refused(
    scales: dict[int, Path], tmp_path: Path, name: str
) -> None:
    async def test() -> None:
        put(scales[1], tmp_path / "models" / "scale" / "1")
        async with started(tmp_path / "models") as repository:
            with pytest.raises(ServeError, match="cannot be the name of a model"):
                await repository.load(name)
            with pytest.raises(ServeError) as caught:
                await repository.unload(name)
            assert caught.value.status == 404

    run(test())


def test_what_is_removed_from_the_folder_is_unloaded_and_forgotten(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        place = put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path, poll_s=0.05) as repository:
            shutil.rmtree(place)
            while repository.entries:
                await asyncio.sleep(0.01)
            with pytest.raises(ServeError, match="unknown model"):
                await factor(repository, "scale")

    run(test())


def test_what_the_api_unloaded_stays_so_until_the_api_loads_it(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    async def test() -> None:
        place = put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path, poll_s=0.05) as repository:
            await repository.unload("scale")
            put(scales[2], place)
            await asyncio.sleep(0.3)
            with pytest.raises(ServeError, match="load it with the repository API") as caught:
                await factor(repository, "scale")
            assert caught.value.status == 503
            assert await repository.ready()
            await repository.load("scale")
            assert await factor(repository, "scale") == 2

    run(test())


def test_replacing_a_bundle_under_load_loses_and_mixes_nothing(
    scales: dict[int, Path], tmp_path: Path
) -> None:
    """Clients ask all the time; each answer must be that of exactly one bundle."""
    swaps, clients = 10, 4

    async def client(repository: Repository, stop: asyncio.Event, seen: list[float]) -> None:
        while not stop.is_set():
            value = await factor(repository, "scale")
            seen.append(value)
            assert value in {1.0, 2.0}
            await asyncio.sleep(0.001)

    async def test() -> None:
        place = put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path, poll_s=0.02) as repository:
            stop, seen = asyncio.Event(), list[float]()
            async with asyncio.TaskGroup() as group:
                for _ in range(clients):
                    group.create_task(client(repository, stop, seen))
                for swap in range(swaps + 1):  # at first it is replaced by itself
                    wanted = 1 + swap % 2
                    await asyncio.to_thread(put, scales[wanted], place)
                    while seen[-1:] != [wanted]:
                        await asyncio.sleep(0.005)
                stop.set()
            changes = int(np.count_nonzero(np.diff(seen)))
            assert changes >= swaps
            failures = [s.statistics.failures for s in repository.servables()]
            assert failures == [{}]

    run(test())


def test_a_bundle_that_is_replaced_while_it_loads_is_not_taken(
    scales: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the manifest of one bundle could go with the model of another."""
    from edgekit.serve import loading

    async def test() -> None:
        place = put(scales[1], tmp_path / "scale.edge")
        async with started(tmp_path) as repository:
            put(scales[2], place)
            load = loading.load

            def slow(*args: Any, **options: Any) -> Any:
                loaded = load(*args, **options)
                put(scales[3], place)
                return loaded

            with monkeypatch.context() as patch:
                patch.setattr(loading, "load", slow)
                with pytest.raises(ServeError, match="was replaced while it was loaded"):
                    await repository.load("scale")
            assert await factor(repository, "scale") == 1
            await repository.load("scale")
            assert await factor(repository, "scale") == 3

    run(test())
