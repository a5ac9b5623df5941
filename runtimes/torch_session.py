"""Sessions that run programs of ``torch.export``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from edgekit.runtimes.base import Layer, Session, SessionOptions, given_name
from edgekit.runtimes.torch_layers import LayerByLayer
from torch.utils._pytree import tree_leaves

from edgekit.programs import NamedProgram, keyword_names
from edgekit.spec import Feeds, Outputs, TensorSpec
from edgekit.tensors import to_array, to_tensor

__all__ = ["program_session"]


def program_session(named: NamedProgram, options: SessionOptions) -> Session:
    """A session that runs a program.

    Raises:
        SpecError: it takes nested inputs, or some that are no tensors.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if not options.intermediates:
        return _TorchSession(_Whole(named), named.inputs, named.outputs)
    inputs, outputs, given = (
        [spec.name for spec in specs] for specs in (named.inputs, named.outputs, options.given)
    )
    inside = LayerByLayer(named.program, inputs, outputs, given)
    further = tuple(replace(spec, name=given_name(spec.name)) for spec in options.given)
    return _TorchSession(inside, (*named.inputs, *further), named.outputs, inside.layers)


class _Whole:
    """Calls a program as it was exported: by position and by keyword."""

    def __init__(self, named: NamedProgram) -> None:
        self._module = named.program.module()
        keywords = keyword_names(named.program)
        names = [spec.name for spec in named.inputs]
        self._positional = names[: len(names) - len(keywords)]
        self._keywords = dict(zip(keywords, names[len(self._positional) :], strict=True))
        self._outputs = [spec.name for spec in named.outputs]

    def __call__(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result = self._module(
            *(feeds[name] for name in self._positional),
            **{keyword: feeds[name] for keyword, name in self._keywords.items()},
        )
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        return dict(zip(self._outputs, tensors, strict=True))


class _TorchSession(Session):
    def __init__(
        self,
        compute: Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]],
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        layers: tuple[Layer, ...] = (),
    ) -> None:
        self._compute: Callable[..., dict[str, torch.Tensor]] | None = compute
        self.inputs, self.outputs, self.layers = inputs, outputs, layers

    def _run(self, feeds: Feeds) -> Outputs:
        if self._compute is None:
            raise RuntimeError("the session is closed")
        with torch.inference_mode():
            made = self._compute({name: to_tensor(array) for name, array in feeds.items()})
        # A result may be an input or a weight itself: the caller gets one of its own.
        return {name: to_array(tensor).copy() for name, tensor in made.items()}

    def _release(self) -> None:
        self._compute = None
