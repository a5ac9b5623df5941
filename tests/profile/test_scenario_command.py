"""``edgekit profile --scenario`` as a person types it, on a bundle and on real servers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.profile.records import Profile
from tests.profile.targets.conftest import Served, served

__all__ = ["served"]

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; what it printed, on stderr where it fails with 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_TOKEN", raising=False)

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["edgekit", "profile", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        if code == 2:
            assert told.err.count("\n") == 1, told.err
        return told.err if code == 2 else told.out

    return run


@pytest.mark.parametrize(
    ("scenario", "metric"),
    [("single-stream", "p90 latency"), ("multi-stream", "p99 latency"), ("offline", "samples/s")],
)
def test_a_scenario_prints_a_block_and_is_kept(
    run: Run, built: Path, scenario: str, metric: str
) -> None:
    told = run(str(built), "--runtime", "onnxruntime", "--scenario", scenario,
               "--seconds", "1.5", "-o", "p.json")  # fmt: skip
    assert scenario in told
    assert metric in told
    assert "MLPerf asks for 600 s" in told
    profile = Profile.model_validate_json(Path("p.json").read_text())
    (result,) = profile.results
    assert result.outcome is not None
    assert (result.outcome.valid, result.outcome.metric) == (True, metric)
    assert result.samples.scenario == scenario
    assert len(result.samples.starts_ns) == len(result.samples.latencies_ns)


def test_the_server_scenario_keeps_the_schedule_the_seed_and_what_it_tried(
    run: Run, built: Path
) -> None:
    run(str(built), "--runtime", "onnxruntime", "--scenario", "server", "--target", "p90<1s",
        "--rate", "200", "--seconds", "1", "--streams", "2", "--seed", "7",
        "-o", "p.json")  # fmt: skip
    (result,) = Profile.model_validate_json(Path("p.json").read_text()).results
    assert result.outcome is not None
    assert (result.outcome.seed, result.outcome.target) == (7, (90, 1000))
    assert result.settings.streams == 2
    assert len(result.samples.starts_ns) == 200
    assert result.samples.starts_ns[0] == 0


def test_a_target_that_is_not_held_exits_with_1(run: Run, built: Path) -> None:
    told = run(str(built), "--runtime", "onnxruntime", "--scenario", "server", "--target",
               "p50<1us", "--rate", "50", "--seconds", "1", code=1)  # fmt: skip
    assert "valid          NO" in told
    assert "took longer than 1 us" in told


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--scenario", "offline", "--batch", "2", "--streams", "3"),
        ("--scenario", "server", "--target", "p99<10s", "--rate", "100", "--queries", "700"),
    ],
)
def test_a_server_is_profiled_over_both_protocols(
    run: Run, served: Served, built: Path, scheme: str, options: tuple[str, ...]
) -> None:
    told = run(served.url(scheme), "--seconds", "0.5", "--token-file", str(served.token_file),
               "--data", str(built), "--json", *options)  # fmt: skip
    profile = Profile.model_validate(json.loads(told))
    assert profile.model == served.url(scheme)
    assert profile.versions["server"].startswith("edgekit ")
    (result,) = profile.results
    assert result.samples.runtime == scheme
    assert result.outcome is not None
    assert result.outcome.valid


BAD = [
    (("--target", "p99<10ms"), "--target: is for a scenario"),
    (("--scenario", "offline", "--target", "p99<10ms"), "--target: is for the server scenario"),
    (("--scenario", "single-stream", "--rate", "5"), "--rate: is for the server scenario"),
    (("--scenario", "server"), "--scenario server: needs a latency"),
    (("--scenario", "server", "--target", "p99<10ms", "--rate", "0"), "--rate: 0 is no rate"),
    (("--scenario", "server", "--target", "p99<10ms", "--rate", "nan"), "--rate: nan is no rate"),
    (("--scenario", "server", "--target", "p99>10ms"), "--target: 'p99>10ms' is no limit"),
    (("--scenario", "server", "--target", "drop<1"), "--target: 'drop<1' is no limit"),
    (("--scenario", "server", "--target", "p99<0ms"), "--target: 'p99<0ms' allows no time"),
    (("--scenario", "server", "--target", "p99"), "--target: 'p99' is no goal"),
    (("--scenario", "serve"), "there is no scenario 'serve', did you mean 'server'"),
    (("--scenario", "offline", "--mlperf", "--seconds", "5"), "--mlperf: sets the duration"),
    (("--scenario", "offline", "--data", "x.edge"), "--data: is for a server"),
    (("--token-file", "x"), "--token-file: is for a server"),
    (("--scenario", "offline", "--resume"), "no run of this very command"),
    (("--scenario", "offline", "--size", "depth=3"), "no input has a dynamic dimension 'depth'"),
]


@pytest.mark.parametrize(("options", "told"), BAD)
def test_options_that_do_not_go_together_are_one_line(
    run: Run, built: Path, options: tuple[str, ...], told: str
) -> None:
    assert told in run(str(built), *options, code=2)


@pytest.mark.parametrize(
    ("path", "options", "told"),
    [
        ("/residual", (), "answered 401"),
        ("/none", ("--token-file", "TOKEN"), "answered 404"),
        ("", ("--token-file", "TOKEN"), "names no model"),
        ("/residual", ("--token-file", "TOKEN", "--threads", "2"), "--threads: is the server's"),
        ("/residual", ("--token-file", "TOKEN", "--size", "image.3=2"), "no input has a dynamic"),
        ("/residual", ("--token-file", "TOKEN", "--data", "other.edge"), "other.edge"),
    ],
)
def test_what_a_server_refuses_is_one_line(
    run: Run, served: Served, path: str, options: tuple[str, ...], told: str
) -> None:
    given = [str(served.token_file) if one == "TOKEN" else one for one in options]
    assert told in run(f"{served.http}{path}", *given, code=2)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:1/m", "no answer"),
        ("grpc://127.0.0.1:1/m", "answered UNAVAILABLE"),
        ("grpc://127.0.0.1/m", "has no port"),
        ("ftp://127.0.0.1/m", "is no URL of a server"),
        ("http://127.0.0.1:99999/m", "is no URL"),
    ],
)
def test_a_server_that_is_not_there_is_one_line(run: Run, url: str, told: str) -> None:
    assert told in run(url, code=2)


def test_a_model_that_grpc_does_not_know_is_one_line(run: Run, served: Served) -> None:
    told = run(f"{served.grpc}/none", "--token-file", str(served.token_file), code=2)
    assert "answered NOT_FOUND" in told
