"""Signatures: ed25519 over a bundle's ``bundle.json``, which has the sha256 of every file.

An ensemble's file is signed in the same way.

``bundle.json.sig`` is the 64 bytes of RFC 8032, so that OpenSSL checks it, too::

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in bundle.json -sigfile bundle.json.sig
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from edgekit.atomic import write_file
from edgekit.errors import SecurityError
from edgekit.security.names import signature_of

__all__ = ["check", "keygen", "sign"]


def keygen(path: Path) -> Path:
    """Write a new private key to ``path``, for its owner only, and the public one beside it.

    Returns:
        The file of the public key, ``path`` with ``.pub`` behind.

    Raises:
        SecurityError: one of the two files exists.
        OutputError: they cannot be written.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists():
            raise SecurityError(
                "exists, and a key that is lost cannot be made again",
                where=str(file),
                fix="Choose another --output",
            )
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private_bytes = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public_bytes = key.public_key().public_bytes(
        pem, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_file(path, private_bytes, mode=0o600)
    write_file(public, public_bytes)
    return public


def sign(file: Path, key: Path) -> Path:
    """Sign a bundle's ``bundle.json`` or an ensemble's file; an older signature is replaced.

    Returns:
        The file of the signature.

    Raises:
        SecurityError: ``key`` is not an ed25519 private key.
        OutputError: the signature cannot be written.
    """
    private = _load(key, Ed25519PrivateKey)
    signature = signature_of(file)
    write_file(signature, private.sign(file.read_bytes()))
    return signature


def check(raw: bytes, file: Path, key: Path) -> None:
    """Check that the holder of a key signed a file.

    Args:
        raw: the bytes of ``file``: those that are parsed, not those of a second reading.
        file: a bundle's ``bundle.json``, or an ensemble's file.
        key: the public key.

    Raises:
        SecurityError: there is no signature, it is another key's or of other bytes, or ``key`` is
            not an ed25519 public key.
    """
    public = _load(key, Ed25519PublicKey)
    signature = signature_of(file)
    fix = "Take it from who holds the key, or sign it: edgekit sign PATH --key KEY"
    if not signature.is_file():
        raise SecurityError("is not signed", where=str(file), fix=fix)
    try:
        public.verify(signature.read_bytes(), raw)
    except InvalidSignature as error:
        raise SecurityError(
            f"is not a signature of {file.name} by {key.name}", where=str(signature), fix=fix
        ) from error


def _load(path: Path, kind: type[Any]) -> Any:
    private = kind is Ed25519PrivateKey
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SecurityError(
            f"cannot be read: {error.strerror}", where=str(path), fix="Run: edgekit keygen"
        ) from error
    try:
        key = (
            serialization.load_pem_private_key(raw, password=None)
            if private
            else serialization.load_pem_public_key(raw)
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, kind):
        wanted = "private key without a passphrase" if private else "public key"
        raise SecurityError(
            f"is not an ed25519 {wanted} in PEM",
            where=str(path),
            fix=f"Give the file that edgekit keygen wrote{'' if private else ', NAME.pub'}",
        )
    return key
