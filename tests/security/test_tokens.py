from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import SecurityError
from edgekit.security.tokens import Scope, Token, add_token, load_tokens, parse_tokens

HASH = "0" * 63 + "1"
ENTRY = f"- name: camera\n  sha256: {HASH}\n  scopes: [infer]\n"

TOKENS = st.lists(
    st.builds(
        Token,
        name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True),
        sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        scopes=st.sets(st.sampled_from(Scope), min_size=1).map(frozenset),
        rate=st.none() | st.floats(1e-3, 1e6),
        burst=st.none() | st.integers(1, 10**6),
    ),
    max_size=5,
    unique_by=(lambda token: token.name, lambda token: token.sha256),
)


@settings(max_examples=30)
@given(TOKENS)
def test_what_yaml_writes_is_what_is_read(tokens: list[Token]) -> None:
    text = yaml.safe_dump([t.model_dump(mode="json", exclude_none=True) for t in tokens])
    assert parse_tokens(text, "tokens.yaml") == tuple(tokens)


@given(st.text() | st.text(alphabet="-:[]{} \n'\"&*!|>%@`#~0123456789abcdefnamesha256scopesrate"))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        parse_tokens(text, "tokens.yaml")
        told = "tokens.yaml"
    except SecurityError as error:
        told = str(error)
    assert told.startswith("tokens.yaml")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 1000, "not valid YAML"),
        ("- name: [", "not valid YAML"),
        ("camera: x", "Input should be a valid list"),
        ("- camera", "entry 1: Input should be"),
        (ENTRY + "- name: b\n", "entry 2: sha256: Field required"),
        (ENTRY.replace(HASH, HASH[1:]), "entry 1: sha256: String should match"),
        (ENTRY.replace(HASH, HASH.replace("1", "G")), "sha256: String should match"),
        (ENTRY.replace("infer", "root"), "scopes: Input should be 'infer' or 'admin'"),
        (ENTRY.replace("[infer]", "[]"), "scopes: Frozenset should have at least 1 item"),
        (ENTRY.replace("camera", "../x"), "name: String should match"),
        (ENTRY + "  rate: 0\n", "rate: Input should be greater than 0"),
        (ENTRY + "  rate: .inf\n", "rate: Input should be a valid number"),
        (ENTRY + "  burst: 0\n", "burst: Input should be greater than or equal to 1"),
        (ENTRY + "  scope: admin\n", "unknown key 'scope', did you mean 'scopes'"),
        (ENTRY + ENTRY, "two tokens have the name camera"),
        (ENTRY + ENTRY.replace("camera", "b"), f"two tokens have the sha256 {HASH}"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(SecurityError, match=r"^tokens\.yaml") as caught:
        parse_tokens(text, "tokens.yaml")
    assert message in str(caught.value)


def test_a_made_token_is_in_the_file_as_its_hash_only(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    secret = add_token(path, "camera", rate=5, burst=7)
    admin = add_token(path, "boss", admin=True)
    first, second = load_tokens(path)
    assert (first.name, first.rate, first.burst) == ("camera", 5, 7)
    assert first.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert first.scopes == {Scope.INFER}
    assert second.scopes == {Scope.INFER, Scope.ADMIN}
    assert not {secret, admin} & set(path.read_text().split())
    assert len({secret, admin}) == 2


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text("")
    path.chmod(0o644)
    add_token(path, "camera")
    assert path.stat().st_mode & 0o777 == 0o600


def test_comments_and_a_missing_last_line_end_survive(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(f"# ours\n{ENTRY}".rstrip())
    add_token(path, "other")
    assert path.read_text().startswith("# ours\n")
    assert [token.name for token in load_tokens(path)] == ["camera", "other"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [("camera", {}), ("a b", {}), ("", {}), ("x", {"rate": 0.0}), ("x", {"rate": float("nan")})],
)
def test_a_refused_token_leaves_the_file_as_it_was(
    tmp_path: Path, name: str, settings: dict[str, float]
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(ENTRY)
    with pytest.raises(SecurityError):
        add_token(path, name, **settings)
    assert path.read_text() == ENTRY


def test_a_file_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(ENTRY)
    path.chmod(0o666)
    with pytest.raises(SecurityError, match="Run: chmod 600"):
        load_tokens(path)


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe\xff"])
def test_a_file_without_a_token_says_how_to_make_one(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokens.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SecurityError, match=f"edgekit token NAME --file {path}"):
        load_tokens(path)


def test_a_folder_in_place_of_the_file_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(SecurityError, match="Is a directory" if os.name == "posix" else "read"):
        load_tokens(tmp_path)
