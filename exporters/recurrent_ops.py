"""LSTM and GRU as one operator each while a model is traced, so that the length may be dynamic.

``torch.export`` finds the shapes of PyTorch's own operator by running its steps one by one, which
fixes the number of steps to that of the example. Operators of our own say their shapes instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from onnxscript.function_libs.torch_lib.ops import core
from torch.nn.modules import rnn

__all__ = ["TRANSLATIONS", "runnable", "whole_layers"]

_SETTINGS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
    "bool bidirectional, bool batch_first"
)
torch.library.define(
    "edgekit::lstm", f"(Tensor input, Tensor[] hx, {_SETTINGS}) -> (Tensor, Tensor, Tensor)"
)
torch.library.define("edgekit::gru", f"(Tensor input, Tensor hx, {_SETTINGS}) -> (Tensor, Tensor)")


@torch.library.register_fake("edgekit::lstm")  # type: ignore[untyped-decorator]
def _lstm(
    x: torch.Tensor, hx: list[torch.Tensor], *settings: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return _read(x, hx[0], settings), torch.empty_like(hx[0]), torch.empty_like(hx[1])


@torch.library.register_fake("edgekit::gru")  # type: ignore[untyped-decorator]
def _gru(x: torch.Tensor, hx: torch.Tensor, *settings: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return _read(x, hx, settings), torch.empty_like(hx)


def _read(x: torch.Tensor, h: torch.Tensor, settings: tuple[Any, ...]) -> torch.Tensor:
    """The output of all steps: (.., .., directions * size) beside x of (.., .., inputs)."""
    *_, bidirectional, _ = settings
    return x.new_empty((*x.shape[:-1], h.shape[-1] * (2 if bidirectional else 1)))


#: How the converter writes them in ONNX: as it does PyTorch's own.
TRANSLATIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.edgekit.lstm.default: core.aten_lstm,
    torch.ops.edgekit.gru.default: core.aten_gru,
}

#: PyTorch's own, which take the same arguments.
_OWN = {
    torch.ops.edgekit.lstm.default: torch.ops.aten.lstm.input,
    torch.ops.edgekit.gru.default: torch.ops.aten.gru.input,
}


def runnable(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program with PyTorch's own operators in place of these, changed in place."""
    for node in program.graph.nodes:
        if node.op == "call_function":
            node.target = _OWN.get(node.target, node.target)
    program.graph_module.recompile()
    return program


@contextlib.contextmanager
def whole_layers() -> Iterator[None]:
    """Let ``nn.LSTM`` and ``nn.GRU`` call these operators meanwhile, which only tracing can run."""
    layers: Any = rnn
    own = layers._VF  # noqa: SLF001, where the layers look their functions up
    layers._VF = _Functions(own)  # noqa: SLF001
    try:
        yield
    finally:
        layers._VF = own  # noqa: SLF001


class _Functions:
    """PyTorch's recurrent functions, two of them replaced where they read plain sequences."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def lstm(self, x: torch.Tensor, hx: Any, *settings: Any) -> Any:
        # A packed sequence has its batch sizes here; projections make h smaller than c.
        plain = isinstance(hx, tuple | list) and hx[0].shape == hx[1].shape
        function = torch.ops.edgekit.lstm if plain else self._own.lstm
        return function(x, hx, *settings)

    def gru(self, x: torch.Tensor, hx: torch.Tensor, *settings: Any) -> Any:
        packed = isinstance(settings[0], torch.Tensor)  # the state, behind the batch sizes
        return (self._own.gru if packed else torch.ops.edgekit.gru)(x, hx, *settings)
