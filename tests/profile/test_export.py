"""Raw samples as files of three kinds: each holds the whole profile."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import EdgekitError, OutputError
from edgekit.machine import this_machine
from edgekit.profile.records import Profile, Result, Settings
from edgekit.profile.store import load, save
from tests.profile.synthetic import engine, measured

SUFFIXES = (".json", ".npz", ".parquet")


@pytest.fixture(scope="module")
def profile() -> Profile:
    timed = measured([engine, engine], seed=0, rounds=10)
    old = timed[0].model_copy(update={"artifact": "old", "starts_ns": ()})
    return Profile(
        edgekit="0",
        created="2026-01-01T00:00:00+00:00",
        model="m",
        artifacts={"0": "ab", "1": "cd"},
        machine=this_machine(),
        results=tuple(Result(samples=one, settings=Settings(threads=1)) for one in (*timed, old)),
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_profile_comes_back_as_it_was(profile: Profile, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"samples{suffix}"
    save(profile, path)
    assert load(path) == profile


def test_numpy_reads_the_samples(profile: Profile, tmp_path: Path) -> None:
    save(profile, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        assert tuple(file["latencies_ns.1"]) == profile.results[1].samples.latencies_ns
        assert json.loads(str(file["profile"]))["model"] == "m"


def test_pandas_reads_the_samples(profile: Profile, tmp_path: Path) -> None:
    import pandas as pd

    save(profile, tmp_path / "s.parquet")
    table = pd.read_parquet(tmp_path / "s.parquet")
    assert len(table) == 120
    assert list(table["artifact"].unique()) == ["0", "1", "old"]
    mine = table[table["result"] == 1]
    assert tuple(mine["latency_ns"]) == profile.results[1].samples.latencies_ns


def test_another_suffix_is_refused(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=re.escape("End its name in .json, .npz, .parquet")):
        save(profile, tmp_path / "s.csv")


def test_parquet_without_pyarrow_says_what_to_install(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EdgekitError, match=re.escape("pip install 'edgekit[parquet]'")):
        save(profile, tmp_path / "s.parquet")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_profile_is_one_line(profile: Profile, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    with pytest.raises(EdgekitError, match="cannot be read"):
        load(path)
    path.write_bytes(b"{}")
    told = "is not a profile" if suffix == ".json" else "is damaged"
    with pytest.raises(EdgekitError, match=told):
        load(path)
    save(profile, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(EdgekitError, match="is damaged"):
        load(path)


def test_a_folder_that_is_not_there_is_one_line(profile: Profile, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        save(profile, tmp_path / "none" / "s.npz")
    assert list(tmp_path.iterdir()) == []
