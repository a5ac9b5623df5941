"""``edgekit client`` as a user types it, against the real daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import main
from edgekit.client import Client
from tests.client.servers import answering, echo, scripted
from tests.conftest import batches
from tests.daemon import EDGEKIT


@dataclass(frozen=True)
class Done:
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(
    served: str,
    token: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the command in a folder with ``image.npy``, ``inputs.npz`` and the token's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_TOKEN", raising=False)
    image = next(batches(1))["image"]
    np.save("image.npy", image)
    np.savez("inputs.npz", image=image)
    np.savez("two.npz", image=image, other=image)
    np.savez("pickled.npz", image=np.array([{}], object))
    Path("token").write_text(f"{token[1]}\n")

    def run(*arguments: str, code: int = 0, url: str = served, known: bool = True) -> Done:
        given = ("--token-file", "token") if known else ()
        monkeypatch.setattr(sys, "argv", ["edgekit", "client", url, *arguments, *given])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told
        return Done(told.out, told.err)

    return run


def test_it_is_a_command(served: str, token: tuple[Path, str]) -> None:
    command = [*EDGEKIT, "client", served, "ready", "residual"]
    environment = {**os.environ, "EDGEKIT_TOKEN": token[1]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "ready\n"


@pytest.mark.parametrize("given", ["image=image.npy", "inputs.npz", "image=inputs.npz"])
def test_infer_prints_or_writes_what_the_model_answers(
    run: Run, served: str, token: tuple[Path, str], tmp_path: Path, given: str
) -> None:
    done = run("infer", "residual", "--input", given, "--output", "out.npz", "--json")
    with Client(served, token[1]) as client:
        wanted = client.infer("residual", next(batches(1)))["logits"]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["logits"], wanted)
    np.testing.assert_allclose(json.loads(done.stdout)["logits"], wanted)


def test_strings_are_written_so_that_they_can_be_read_without_pickle(
    run: Run, tmp_path: Path
) -> None:
    np.save(tmp_path / "words.npy", np.array(["edge", "ü"]))
    with answering(echo) as (url, _):
        done = run("infer", "m", "-i", "x=words.npy", "-o", "out.npz", "--json", url=url)
    assert np.load(tmp_path / "out.npz")["x"].tolist() == [b"edge", "ü".encode()]
    assert json.loads(done.stdout) == {"x": ["edge", "ü"]}


def test_a_server_and_its_models_are_told_as_json(run: Run) -> None:
    assert json.loads(run("models").stdout)[0]["name"] == "residual"
    assert json.loads(run("metadata", "residual").stdout)["inputs"][0]["datatype"] == "FP32"
    assert "model_stats" in json.loads(run("stats").stdout)


def test_ready_is_also_told_by_the_exit_code(run: Run) -> None:
    assert run("ready").stdout == "ready\n"
    run("unload", "residual")
    assert run("ready", "residual", code=1).stdout == "not ready\n"
    assert run("load", "residual").stdout == ""
    assert json.loads(run("ready", "residual", "--json").stdout) == {"ready": True}


def test_predict_sends_the_file(run: Run) -> None:
    with answering(scripted((200, {}, b'{"label": "a"}'))) as (url, requests):
        done = run("predict", "residual", "image.npy", "--deadline", "9", url=url)
    assert json.loads(done.stdout) == {"label": "a"}
    assert requests[0].headers["content-type"] == "application/x-npy"
    assert 8000 < int(requests[0].headers["x-request-timeout-ms"]) <= 9000


def test_without_a_token_the_error_is_one_line(run: Run) -> None:
    told = run("models", code=2, known=False).stderr
    assert "answered 401" in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infer"], "infer needs a MODEL"),
        (["predict", "residual"], "predict needs a FILE"),
        (["metadata", "--input", "inputs.npz"], "are for infer"),
        (["nonsense"], "nonsense"),
        (["infer", "residual", "-i", "image.npy"], "give NAME=image.npy"),
        (["infer", "residual", "-i", "image=two.npz"], "has image, other: give two.npz without"),
        (["infer", "residual", "-i", "image=token"], "token is no .npy or .npz file"),
        (
            ["infer", "residual", "-i", "pickled.npz"],
            "pickled.npz is no .npy or .npz file of plain",
        ),
        (["infer", "residual", "-i", "image=none.npy"], "none.npy: No such file"),
        (["infer", "residual", "-i", "inputs.npz", "-o", "no/out.npz"], "no/out.npz: cannot be"),
        (["infer", "residul", "-i", "inputs.npz"], "unknown model 'residul'"),
        (["ready", "--ca", "token"], "token: cannot be used"),
        (["ready", "--key", "token"], "--key goes with --cert"),
    ],
)
def test_a_wrong_command_is_told_what_is_wrong(
    run: Run, arguments: list[str], message: str
) -> None:
    assert message in " ".join(run(*arguments, code=2).stderr.split())
