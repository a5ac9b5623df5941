"""What a killed training needs to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekit.atomic import write_file
from edgekit.errors import OutputError

__all__ = ["Checkpoint", "digest", "restore", "rng_state", "set_rng_state", "snapshot"]

_DIGEST_BYTES = 32


class Checkpoint:
    """One file: the digest of the rest, then what :func:`torch.save` makes of the state.

    Args:
        folder: where it lies, made if it is missing; None for no checkpoints.
        label: what is trained; names the file.
        fingerprint: of all that the training depends on. A file of another one is ignored.
        seconds: how often :meth:`save` really writes.
    """

    def __init__(self, folder: Path | None, label: str, fingerprint: str, seconds: float) -> None:
        name = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        self._path = None if folder is None else folder / f"{name or 'training'}.checkpoint"
        self._fingerprint = fingerprint
        self._seconds = seconds
        self._saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The state that was saved last; None if there is none, or it is torn or another's."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            data = self._path.read_bytes()
        except OSError as error:
            raise OutputError(
                f"the checkpoint cannot be read: {error.strerror or error}",
                where=str(self._path),
                fix="Remove it or make it readable",
            ) from error
        head, payload = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != head:
            return None
        held: dict[str, Any] = torch.load(
            io.BytesIO(payload), map_location="cpu", weights_only=True
        )
        return held["state"] if held["fingerprint"] == self._fingerprint else None

    def due(self) -> bool:
        """Whether it is time to write again."""
        return self._path is not None and time.monotonic() - self._saved >= self._seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Write ``state``: tensors, numbers, text, and lists and dicts of them.

        Raises:
            OutputError: the folder cannot be written, or the disk is full.
        """
        if self._path is None:
            return
        stream = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "state": dict(state)}, stream)
        payload = stream.getvalue()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"the folder for checkpoints cannot be made: {error.strerror or error}",
                where=str(self._path.parent),
                fix="Choose a folder that can be written",
            ) from error
        write_file(self._path, hashlib.sha256(payload).digest() + payload)
        self._saved = time.monotonic()

    def remove(self) -> None:
        """The training is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters and buffers, also of those that ``state_dict`` leaves out."""
    return {name: tensor.detach().clone() for name, tensor in _tensors(model)}


def restore(model: nn.Module, held: Mapping[str, torch.Tensor]) -> None:
    """Write a :func:`snapshot` back in place."""
    with torch.no_grad():
        for name, tensor in _tensors(model):
            tensor.copy_(held[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def digest(*parts: str | nn.Module) -> str:
    """A sha256 over texts and over names, shapes and values of modules' tensors."""
    made = hashlib.sha256(torch.__version__.encode())
    for part in parts:
        if isinstance(part, str):
            made.update(f"{len(part)}:{part}".encode())
            continue
        for name, tensor in _tensors(part):
            made.update(f"{name}{list(tensor.shape)}{tensor.dtype}".encode())
            values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            made.update(values.numpy().data)
    return made.hexdigest()


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the global generators that training on ``device`` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_rng_state(device: torch.device, states: Mapping[str, torch.Tensor]) -> None:
    """Undo of :func:`rng_state`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
