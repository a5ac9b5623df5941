"""Names as attackers write them, after the tests that Triton has for its repository."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from edgekit.security.names import checked_name, is_name
from edgekit.serve import folder
from edgekit.serve.app import create_app
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.errors import ServeError
from edgekit.serve.repository import Repository

BAD = [
    "", " ", "\t", "\n", "digits\n", " digits", "digits ", ".", "..", "...", ".hidden", "-rf", "_a",
    "a/b", "/", "/etc/passwd", "../digits", "digits/..", "a..b", "..\\digits", "C:\\models", "a\\b",
    "%2e%2e", "%2e%2e%2f", "digits%00", "digits\0", "\0", "~", "$HOME", "a;b", "a*", "a" * 129,
    "\N{FULLWIDTH FULL STOP}" * 2, "d\N{LATIN SMALL LETTER I WITH DIAERESIS}gits",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one good model and links to another bundle outside, in all ways."""
    home = tmp_path_factory.mktemp("home")
    outside, root = home / "outside.edge", home / "models"
    shutil.copytree(built, outside)
    shutil.copytree(built, root / "good.edge")
    (root / "empty").mkdir()
    (root / "out.edge").symlink_to(outside)
    (root / "relative.edge").symlink_to(Path("..") / "outside.edge")
    (root / "versions").symlink_to(home)
    (root / "empty" / "1").symlink_to(outside)
    (root / "loop").symlink_to("loop")
    (root / "alias.edge").symlink_to("good.edge")
    shutil.copytree(built, root / ".hidden.edge")
    return root


@pytest.fixture(scope="module")
def http(root: Path) -> Iterator[TestClient]:
    config = ServerConfig(defaults=ModelConfig(runtime="onnxruntime"), explicit=True)
    repository = Repository(root, config)
    with TestClient(create_app(repository, config), raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_what_is_no_name_is_refused_with_400(name: str) -> None:
    with pytest.raises(ServeError, match="cannot be the name of a model") as caught:
        checked_name(name)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", ["a", "7", "resnet8-mnist", "bert_base.v2", "A" * 128])
def test_plain_names_pass(name: str) -> None:
    assert checked_name(name) is name


@given(st.text() | st.text(alphabet="./\\%2e\0 ab"))
def test_what_passes_stays_one_step_below_the_folder(name: str) -> None:
    path = Path("/models") / name.replace("\0", "0")
    assert not is_name(name) or path.resolve() == Path("/models", name)
    assert not is_name(name) or path.resolve().parent == Path("/models")


def test_links_that_lead_out_of_the_repository_are_not_looked_at(root: Path) -> None:
    assert set(folder.scan(root)) == {"good", "alias"}


def test_a_repository_that_is_a_link_itself_is_fine(root: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(root)
    assert "good" in folder.scan(tmp_path / "models")


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize(
    "name", [*BAD, "outside", "out", "relative", "versions", "empty", "loop", ".hidden"], ids=repr
)
def test_no_request_reaches_anything_but_the_models(
    http: TestClient, action: str, name: str
) -> None:
    for written in (quote(name, safe=""), name):
        if written.isprintable():
            answer = http.post(f"/v2/repository/models/{written}/{action}")
            assert answer.status_code in {400, 404, 405}, answer.text
            assert set(answer.json()) == {"error"}
    ready = {
        one["name"] for one in http.post("/v2/repository/index").json() if one["state"] == "READY"
    }
    assert not ready - {"good"}


def test_a_good_name_loads(http: TestClient) -> None:
    assert http.post("/v2/repository/models/good/load").status_code == 200
    assert http.post("/v2/repository/models/good/unload").status_code == 200
