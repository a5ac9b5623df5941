from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edgekit.bundle import Bundle, seal
from edgekit.errors import SecurityError
from edgekit.packing import pack, unpack
from edgekit.security import signature


@pytest.fixture
def key(tmp_path: Path) -> Path:
    signature.keygen(tmp_path / "ours.key")
    return tmp_path / "ours.key"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("ours.key.pub")


ENSEMBLE = """
inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]
steps: [{op: softmax, inputs: {x: x}, outputs: {y: y}}]
outputs: [y]
"""


@pytest.fixture
def signed(bundle_copy: Path, key: Path) -> Path:
    signature.sign(bundle_copy / "bundle.json", key)
    return bundle_copy


def test_a_signed_bundle_opens(signed: Path, public: Path) -> None:
    assert Bundle.open(signed, signed_by=public).manifest == Bundle.open(signed).manifest


def test_the_private_key_is_its_owner_s_only(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_bundle_without_a_signature_is_refused(bundle_copy: Path, public: Path) -> None:
    with pytest.raises(SecurityError, match="is not signed"):
        Bundle.open(bundle_copy, signed_by=public)


def test_a_signature_by_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    other = signature.keygen(tmp_path / "other.key")
    with pytest.raises(SecurityError, match=r"not a signature of bundle\.json by other\.key\.pub"):
        Bundle.open(signed, signed_by=other)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"\0" * 63, b"\xff" * 1000])
def test_a_damaged_signature_is_refused(signed: Path, public: Path, content: bytes) -> None:
    (signed / "bundle.json.sig").write_bytes(content)
    with pytest.raises(SecurityError, match=r"not a signature of bundle\.json"):
        Bundle.open(signed, signed_by=public)


def test_a_bundle_that_was_changed_and_sealed_again_is_refused(signed: Path, public: Path) -> None:
    manifest = Bundle.open(signed).manifest
    seal(signed, manifest.model_copy(update={"name": "other"}))
    assert Bundle.open(signed).manifest.name == "other"  # whole, but not what was signed
    with pytest.raises(SecurityError, match=r"not a signature of bundle\.json"):
        Bundle.open(signed, signed_by=public)


def test_the_signature_is_checked_before_anything_is_parsed(signed: Path, public: Path) -> None:
    (signed / "bundle.json").write_text("[" * 100_000)
    with pytest.raises(SecurityError, match=r"not a signature of bundle\.json"):
        Bundle.open(signed, signed_by=public)


def test_packing_keeps_the_signature(signed: Path, public: Path, tmp_path: Path) -> None:
    pack(Bundle.open(signed), tmp_path / "x.edge.tar.zst")
    unpack(tmp_path / "x.edge.tar.zst", tmp_path / "x.edge")
    Bundle.open(tmp_path / "x.edge", signed_by=public)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the command openssl")
def test_openssl_agrees(signed: Path, public: Path) -> None:
    files = ["-in", signed / "bundle.json", "-sigfile", signed / "bundle.json.sig"]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Verified Successfully" in done.stdout


def test_a_key_is_never_replaced(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(SecurityError, match="exists"):
        signature.keygen(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_what_is_no_key_is_refused(signed: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = tmp_path / "bad.key"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(SecurityError, match=r"bad\.key"):
        Bundle.open(signed, signed_by=bad)
    with pytest.raises(SecurityError, match=r"bad\.key"):
        signature.sign(signed / "bundle.json", bad)


def test_the_private_key_is_not_accepted_for_the_public_one(signed: Path, key: Path) -> None:
    with pytest.raises(SecurityError, match=r"not an ed25519 public key.*NAME\.pub"):
        Bundle.open(signed, signed_by=key)


def test_a_key_of_another_kind_is_refused(signed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    private = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SecurityError, match="not an ed25519 private key"):
        signature.sign(signed / "bundle.json", other)


def test_the_commands_make_keys_sign_and_say_what_they_wrote(
    bundle_copy: Path, tmp_path: Path
) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "edgekit", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    assert "a.key.pub, for edgekit serve --require-signature" in run("keygen", "-o", "a.key")
    told = run("sign", str(bundle_copy), "--key", "a.key")
    assert told == f"Wrote {bundle_copy}/bundle.json.sig\n"
    Bundle.open(bundle_copy, signed_by=tmp_path / "a.key.pub")
    (tmp_path / "x.ensemble.yaml").write_text(ENSEMBLE)
    assert run("sign", "x.ensemble.yaml", "--key", "a.key") == "Wrote x.ensemble.yaml.sig\n"
    assert json.loads((bundle_copy / "bundle.json").read_bytes())["name"] == "residual"
