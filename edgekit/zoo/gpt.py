"""``zoo:gpt-news``: a small GPT that writes news, character by character.

Language Models are Unsupervised Multitask Learners (Radford et al., 2019): a decoder of blocks
with the norms first, learned positions and a head that is tied to the embedding. Keys and values
of what it read are its state, so that ``session.stateful()`` computes one character at a time;
:func:`written` does that, by the likeliest character or by drawing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds, Outputs
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._attention import Block
from edgekit.zoo._entry import Made
from edgekit.zoo._news import news

__all__ = ["CONTEXT", "ENTRIES", "workload", "written"]

CONTEXT = 128
_WIDTH, _HEADS, _LAYERS = 64, 4, 3
_BATCH = 4
_PAST = [f"past.{layer}.{part}" for layer in range(_LAYERS) for part in ("key", "value")]
_PRESENT = [name.replace("past", "present") for name in _PAST]


class _Gpt(nn.Module):
    """``tokens`` (batch, sequence) int64, and key and value of each block for what was before,
    (batch, 4, past, 16) float32, to ``logits`` (batch, sequence, characters) and the new keys and
    values. Past and sequence are 128 together at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(len(news().alphabet), _WIDTH)
        self.position = nn.Embedding(CONTEXT, _WIDTH)
        self.blocks = nn.ModuleList(Block(_WIDTH, _HEADS, times=4) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(_WIDTH)
        for table in (self.token, self.position):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, tokens: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        everywhere = torch.arange(past[0].shape[2] + tokens.shape[1], device=tokens.device)
        here = everywhere[past[0].shape[2] :]
        seen = everywhere <= here.unsqueeze(1)
        x = self.token(tokens) + self.position(here)
        present: list[torch.Tensor] = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x, made = block.attended(x, seen, (past[2 * index], past[2 * index + 1]))
            x = block.fed(x)
            present += made
        return functional.linear(self.norm(x), self.token.weight), *present


def written(
    run: Callable[[Feeds], Outputs], prompt: str, count: int, *, seed: int | None = None
) -> str:
    """Go on with a text.

    Args:
        run: of a stateful session that was not used yet, or was reset.
        prompt: of one character at least.
        count: how many characters to write; with the prompt they are 128 at most.
        seed: draws each character as likely as it is; None takes the likeliest.
    """
    generator = None if seed is None else np.random.default_rng(seed)
    text = news()
    fed, made = text.encoded(prompt)[None], []
    for _ in range(count):
        logits = run({"tokens": fed})["logits"][0, -1].astype(np.float64)
        if generator is None:
            chosen = int(logits.argmax())
        else:
            shares = np.exp(logits - logits.max()).cumsum()
            chosen = int(np.searchsorted(shares, generator.random() * shares[-1], side="right"))
        made.append(chosen)
        fed = np.array([[chosen]], np.int64)
    return text.decoded(np.array(made))


def _empty(batch: int) -> Feeds:
    """State before the first call."""
    shape = (batch, _HEADS, 0, _WIDTH // _HEADS)
    return {name: np.zeros(shape, np.float32) for name in _PAST}


def _windows(tokens: Array, start: int, length: int, step: int) -> Array:
    found = np.lib.stride_tricks.sliding_window_view(tokens[start:], length)[::step]
    windows: Array = np.ascontiguousarray(found)
    return windows


def _learning(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """All of the text in windows, cut at other places in each epoch."""
    generator = np.random.default_rng(epoch)
    text = news().train
    windows = _windows(text, int(generator.integers(CONTEXT)), CONTEXT + 1, CONTEXT)
    count = (len(text) - 2 * CONTEXT) // CONTEXT // _BATCH
    for chosen in generator.permutation(len(windows))[: count * _BATCH].reshape(count, _BATCH):
        feeds = {"tokens": windows[chosen, :-1], "next": windows[chosen, 1:], **_empty(_BATCH)}
        yield {name: torch.from_numpy(array) for name, array in feeds.items()}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(outputs["logits"].flatten(0, 1), batch["next"].flatten())


def _bits(predict: Predict) -> dict[str, float]:
    """Of each character of the held-out articles, by the 64 to 127 before it."""
    half = CONTEXT // 2
    bits = []
    windows = _windows(news().test, 0, CONTEXT + 1, half)
    for batch in np.array_split(windows, len(windows) // 64):
        first = predict({"tokens": batch[:, :half], **_empty(len(batch))})
        state = {name: first[new] for name, new in zip(_PAST, _PRESENT, strict=True)}
        logits = predict({"tokens": batch[:, half:-1], **state})["logits"].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
        bits.append(-np.take_along_axis(logits, batch[:, half + 1 :, None], -1) / np.log(2))
    return {"bits_per_character": float(np.concatenate(bits).mean())}


def _around(model: nn.Module) -> Workload:
    def calls() -> Iterator[Feeds]:
        windows = _windows(news().train, 0, CONTEXT, 97 * CONTEXT // 2)
        for row in torch.from_numpy(windows).unsqueeze(1):
            with torch.no_grad():
                state = model.eval()(
                    row[:, : CONTEXT // 2], *map(torch.from_numpy, _empty(1).values())
                )[1:]
            given = zip(("tokens", *_PAST), (row[:, CONTEXT // 2 :], *state), strict=True)
            yield {name: tensor.numpy() for name, tensor in given}

    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs=next(calls()),
        output_names=["logits", *_PRESENT],
        dynamic_shapes={
            "tokens": {0: BATCH, 1: "sequence"},
            **{name: {0: BATCH, 2: "past"} for name in _PAST},
        },
        state=dict(zip(_PAST, _PRESENT, strict=True)),
        calibration=calls,
        evaluate=_bits,
        # One percent of it.
        metric=Metric("bits_per_character", higher_is_better=False, max_drop=0.02),
        training=Training(_learning, _loss),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="gpt-news",
    family="transformers",
    description="GPT with a key-value cache on the characters of 300 news articles.",
    bar=2.3,
    source="counts of four characters in a row, interpolated by Witten and Bell: 2.32",
    build=_Gpt,
    make=_around,
    epochs=13,
    rate=6e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
