"""Language models of transformers with their key-value cache as explicit state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from edgekit.errors import WorkloadError
from edgekit.spec import BATCH, Feeds
from edgekit.workload import Workload

__all__ = ["CausalLm", "causal_lm"]


class CausalLm(nn.Module):
    """``forward(input_ids, *past)`` of a causal language model, tensors only.

    ``past`` is key and value of each layer in turn, (batch, heads, past, head size) each, of the
    tokens before ``input_ids``, (batch, sequence). It returns the logits, (batch, sequence,
    vocabulary), and key and value of each layer with those of ``input_ids`` behind.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # Without a configuration it keeps all positions of layers that look at a window only.
        cache = DynamicCache(zip(past[::2], past[1::2], strict=True))
        made = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        present = (x for layer in cache.layers for x in (layer.keys, layer.values))
        return made.logits, *present


def causal_lm(model: PreTrainedModel, tokens: torch.Tensor, *, name: str) -> Workload:
    """The workload of a causal language model (GPT-2, Llama, Qwen, ...) with a key-value cache.

    Its inputs are ``input_ids`` (batch, sequence) and ``past_key_values.0.key`` and so on (batch,
    heads, past, head size), its outputs ``logits`` (batch, sequence, vocabulary) and
    ``present.0.key`` and so on, which are declared as state. Rows of a batch have the same length:
    nothing masks padding.

    Args:
        model: such as ``AutoModelForCausalLM.from_pretrained(...)``.
        tokens: token ids of text like what it will see, (samples, length of 4 at least). The
            second half of each is calibrated on and compared with the first half in the cache.
        name: of the workload.

    Raises:
        WorkloadError: ``tokens`` have another shape or dtype, or the model remembers something
            else than keys and values, a state-space model's state for example.
    """
    where = f"workload {name!r}"
    if tokens.ndim != 2 or tokens.dtype != torch.int64 or len(tokens) < 1 or tokens.shape[1] < 4:
        raise WorkloadError(
            f"tokens are {tokens.dtype} of shape {list(tokens.shape)}",
            where=where,
            fix="Give token ids as int64 of shape (samples, length), with a length of 4 at least",
        )
    wrapped = CausalLm(model)
    half = tokens.shape[1] // 2
    past = [
        f"past_key_values.{layer}.{part}"
        for layer in range(_layers(wrapped, tokens[:1, :half], where))
        for part in ("key", "value")
    ]
    present = [one.replace("past_key_values", "present") for one in past]
    names = ["input_ids", *past]

    def calls() -> Iterator[Feeds]:
        for row in tokens.unsqueeze(1):
            inputs = (row[:, half:], *_present(wrapped, row[:, :half]))
            yield {key: x.numpy() for key, x in zip(names, inputs, strict=True)}

    return Workload(
        name=name,
        model=wrapped,
        example_inputs=next(calls()),
        output_names=["logits", *present],
        dynamic_shapes={
            "input_ids": {0: BATCH, 1: "sequence"},
            **{one: {0: BATCH, 2: "past"} for one in past},
        },
        calibration=calls,
        state=dict(zip(past, present, strict=True)),
    )


def _layers(model: CausalLm, tokens: torch.Tensor, where: str) -> int:
    """How many layers have keys and values."""
    cause = None
    try:
        made = _present(model, tokens)
    except Exception as error:  # noqa: BLE001, each architecture fails in its own way
        made, cause = (), error
    wanted = (len(tokens), tokens.shape[1])
    if not made or any(x.ndim != 4 or (x.shape[0], x.shape[2]) != wanted for x in made):
        raise WorkloadError(
            f"{type(model.model).__name__} does not remember keys and values of its layers alone",
            where=where,
            fix="Write a module with its state as inputs and outputs, and set Workload.state",
        ) from cause
    return len(made) // 2


def _present(model: CausalLm, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Keys and values of the tokens."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            made: tuple[torch.Tensor, ...] = model(tokens)[1:]
            return made
    finally:
        model.train(training)
