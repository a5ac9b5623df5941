"""``zoo:flamingo-scenes``: learns from four images with a word each what a new word means.

"Flamingo: a Visual Language Model for Few-Shot Learning" (Alayrac et al., 2022): the image encoder
of CLIP and a language model, each trained before and frozen, get a bridge between them, which alone
is trained. A Perceiver resampler makes four tokens of what the encoder says of an image. Before
each block of the language model a layer of gated cross-attention lets each word look at the image
right before it; its gates are 0 at first, so that training begins with what the language model
says. What came before, images and words in turn, tells the task.

The language model has read of colours and shapes by their names, each called by a made-up word, and
says that word where a name comes again. Here they are only shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo import clip
from edgekit.zoo._attention import Cross
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._encoder import feed_forward
from edgekit.zoo._entry import Made
from edgekit.zoo._fit import fit
from edgekit.zoo._language import HEADS, WIDTH, Language, read
from edgekit.zoo._new_words import IMAGE, episodes, lessons

__all__ = ["ENTRIES", "Flamingo", "workload"]

_SEEN = 4
_TRAINED, _EPOCHS, _RATE = 2048, 28, 6e-3
_BATCH = 64
#: Seeds of what no model is trained on; those of training are the numbers of epochs.
_CALIBRATION, _HELD_OUT = 10**6, 10**6 + 1


class _Resampler(nn.Module):
    """Features of an image (n, tokens, 48) to a few tokens (n, 4, 48)."""

    def __init__(self) -> None:
        super().__init__()
        self.asking = nn.Parameter(torch.randn(1, _SEEN, WIDTH) * 0.5)
        self.look = Cross(WIDTH, HEADS)
        self.feed = nn.Sequential(nn.LayerNorm(WIDTH), feed_forward(WIDTH))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = self.asking.expand(len(features), -1, -1)
        x = self.look(x, torch.cat([features, x], dim=1))  # they look at each other, too
        made: torch.Tensor = self.norm(x + self.feed(x))
        return made


class _Gated(nn.Module):
    """Words (n, length, 48) take what they need of what is seen (n, images * 4, 48)."""

    def __init__(self) -> None:
        super().__init__()
        self.look = Cross(WIDTH, HEADS)
        self.feed = nn.Sequential(nn.LayerNorm(WIDTH), feed_forward(WIDTH))
        self.look_gate = nn.Parameter(torch.zeros(()))
        self.feed_gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, seen: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        x = x + self.look_gate.tanh() * self.look.found(x, seen, own)
        fed: torch.Tensor = x + self.feed_gate.tanh() * self.feed(x)
        return fed


class Flamingo(nn.Module):
    """Images (n, images, 3, 32, 32), float32 in [0, 1], and tokens (n, length), int64, which begin
    with an image's, to logits of the tokens behind them (n, length, 30).

    How many images are shown is up to the call; it has learnt with five and 14 tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.images = clip.ImageEncoder().requires_grad_(requires_grad=False)
        self.language = Language().requires_grad_(requires_grad=False)
        self.resampler = _Resampler()
        self.bridges = nn.ModuleList(_Gated() for _ in self.language.blocks)

    def train(self, mode: bool = True) -> Flamingo:  # noqa: FBT001, FBT002, as Module has it
        """What is frozen keeps its statistics, too."""
        super().train(mode)
        self.images.eval()
        return self

    def forward(self, images: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        seen = self.resampler(self.images(images.flatten(0, 1)))
        seen = seen.unflatten(0, (-1, images.shape[1]))
        image = torch.arange(images.shape[1], device=images.device) + 1
        count = (tokens == IMAGE).cumsum(1).clamp(min=1).minimum(image[-1])
        own = count.unsqueeze(2) == image  # the one right before a token
        own = own.unsqueeze(3).expand(-1, -1, -1, seen.shape[2]).flatten(2).unsqueeze(1)
        x, before = self.language.begun(tokens)
        for bridge, block in zip(self.bridges, self.language.blocks, strict=True):
            x = block(bridge(x, seen.flatten(1, 2), own), before)
        logits: torch.Tensor = self.language.head(x)
        return logits


def _fit(model: nn.Module) -> None:
    """The language model on text, then what is between it and the images."""
    assert isinstance(model, Flamingo)
    trained = clip.workload().model
    assert isinstance(trained, clip.Clip)
    model.images.load_state_dict(trained.images.state_dict())
    read(model.language.requires_grad_())
    model.language.requires_grad_(requires_grad=False)
    fit(_around(model), model, epochs=_EPOCHS, rate=_RATE)


@cache
def _judged() -> dict[str, Array]:
    return episodes(1000, np.random.default_rng(_HELD_OUT), held_out=True)


def _around(model: nn.Module) -> Workload:
    shown = episodes(128, np.random.default_rng(_CALIBRATION), held_out=False)
    feeds = {name: shown[name] for name in ("images", "tokens")}
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in feeds.items()},
        output_names=["logits"],
        dynamic_shapes={"images": {0: BATCH, 1: "images"}, "tokens": {0: BATCH, 1: "length"}},
        calibration=lambda: in_order(feeds, 32),
        evaluate=_evaluate,
        metric=Metric("accuracy"),
        training=Training(_batches, _loss),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """New episodes in each epoch."""
    return shuffled(lessons(_TRAINED, np.random.default_rng(epoch)), _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Of all words, as the language model's own."""
    following = torch.cat([batch["tokens"][:, 1:], batch["answer"].unsqueeze(1)], dim=1)
    return functional.cross_entropy(outputs["logits"].flatten(0, 1), following.flatten())


def _evaluate(predict: Predict) -> dict[str, float]:
    """How often the likeliest of all words is the right one, of things never shown in training."""
    right = [
        predict({name: batch[name] for name in ("images", "tokens")})["logits"][:, -1].argmax(1)
        == batch["answer"]
        for batch in in_order(_judged(), 100)
    ]
    return {"accuracy": float(np.concatenate(right).mean())}


_ENTRY = Made(
    name="flamingo-scenes",
    family="multimodal",
    description="Flamingo: a frozen language model learns new words from four images in context.",
    build=Flamingo,
    make=_around,
    fit=_fit,
    bar=0.85,
    source="the word of the image that is nearest by CLIP: 0.69; no images: 0.25; no shots: 0.07",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
