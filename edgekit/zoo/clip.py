"""``zoo:clip-scenes``: finds the caption of an image and the image of a caption.

"Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021): a
vision transformer and a causal text transformer, which is read at the end of the sentence, embed
images and captions in one space. Of a batch of pairs each image has to pick its caption and each
caption its image, at a temperature that is learnt. It ships within the images' embeddings, so that
products of the two are the logits of the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import Array
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._conv_bn import conv_bn
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._entry import Made
from edgekit.zoo._things import END, WIDTH, WORDS, caption, encode, pairs, render

__all__ = ["ENTRIES", "Clip", "ImageEncoder", "workload"]

_SIZE, _HEADS, _BLOCKS = 48, 4, 2
_BATCH = 128
_TRAINED, _GALLERY = 4096, 500
#: Seeds of what no model is trained on; those of training are the numbers of epochs.
_CALIBRATION, _HELD_OUT = 10**6, 10**6 + 1


class _Causal(Attention):
    """Each word sees those before it."""

    def mix(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


class ImageEncoder(nn.Module):
    """Images (n, 3, 32, 32), float32 in [0, 1], to tokens (n, 1 + 16, size), a class token first.

    Convolutions stand for the patches (Xiao et al., 2021): with so few images it is learnt faster.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn(3, 24, 3, 2), conv_bn(24, _SIZE, 3, 2), conv_bn(_SIZE, _SIZE, 3, 2)
        )
        self.first = nn.Parameter(torch.zeros(1, 1, _SIZE))
        self.positions = nn.Parameter(torch.randn(1, 1 + 16, _SIZE) * 0.02)
        self.blocks = nn.Sequential(
            *(EncoderBlock(_SIZE, Attention(_SIZE, _HEADS)) for _ in range(_BLOCKS)),
            nn.LayerNorm(_SIZE),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = self.stem(image).flatten(2).transpose(1, 2)
        first = self.first.expand(len(patches), -1, -1)
        tokens: torch.Tensor = self.blocks(torch.cat([first, patches], dim=1) + self.positions)
        return tokens


class Clip(nn.Module):
    """Images (n, 3, 32, 32), float32, and captions (n, 11), int64, to embeddings (n, size) each."""

    def __init__(self) -> None:
        super().__init__()
        self.images = ImageEncoder()
        self.words = nn.Embedding(len(WORDS), _SIZE)
        self.positions = nn.Parameter(torch.randn(1, WIDTH, _SIZE) * 0.02)
        self.blocks = nn.Sequential(
            *(EncoderBlock(_SIZE, _Causal(_SIZE, _HEADS)) for _ in range(_BLOCKS)),
            nn.LayerNorm(_SIZE),
        )
        self.image_projection = nn.Linear(_SIZE, _SIZE, bias=False)
        self.text_projection = nn.Linear(_SIZE, _SIZE, bias=False)
        self.scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.image_projection(self.images(image)[:, 0])
        states = self.blocks(self.words(text) + self.positions)
        end = (text == WORDS.index(END)).unsqueeze(-1).to(states.dtype)
        read = self.text_projection((states * end).sum(1))
        scale = self.scale.clamp(max=np.log(100)).exp()  # as in the paper
        return functional.normalize(seen, dim=-1) * scale, functional.normalize(read, dim=-1)


def _pairs(count: int, seed: int, *, held_out: bool) -> dict[str, Array]:
    """Images with a caption each, which begins with either thing."""
    generator = np.random.default_rng(seed)
    return _described(pairs(count, generator, held_out=held_out), generator)


def _described(kinds: Array, generator: np.random.Generator) -> dict[str, Array]:
    turned = generator.random(len(kinds)) < 0.5
    texts = [
        f"{caption(row, turned=bool(turn))} {END}"
        for row, turn in zip(kinds.tolist(), turned, strict=True)
    ]
    return {"image": render(kinds, generator), "text": encode(texts, WORDS, WIDTH)}


@cache
def _gallery() -> dict[str, Array]:
    """Held-out pairs, of which no two could have the same caption."""
    generator = np.random.default_rng(_HELD_OUT)
    kinds = pairs(2 * _GALLERY, generator, held_out=True)
    kept = {caption(row): row for row in kinds.tolist()}
    return _described(np.array(list(kept.values())[:_GALLERY]), generator)


def _around(model: nn.Module) -> Workload:
    shown = _pairs(256, _CALIBRATION, held_out=False)
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in shown.items()},
        output_names=["image_embedding", "text_embedding"],
        calibration=lambda: in_order(shown, 64),
        evaluate=_evaluate,
        metric=Metric("recall_at_1"),
        training=Training(_batches, _loss),
        description=_ENTRY.description,
    )


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """New scenes in each epoch."""
    return shuffled(_pairs(_TRAINED, epoch, held_out=False), _BATCH, epoch)


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits = outputs["image_embedding"] @ outputs["text_embedding"].T
    own = torch.arange(len(batch["text"]), device=logits.device)
    both = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
    return both / 2


def _evaluate(predict: Predict) -> dict[str, float]:
    """How often the first hit of the gallery is the right one: in each direction, and the mean."""
    found = [predict(feeds) for feeds in in_order(_gallery(), 125)]
    images, texts = (
        np.concatenate([one[name] for one in found])
        for name in ("image_embedding", "text_embedding")
    )
    logits = images @ texts.T
    own = np.arange(len(logits))
    to_text, to_image = (float((logits.argmax(axis) == own).mean()) for axis in (1, 0))
    return {
        "recall_at_1": (to_text + to_image) / 2,
        "image_to_text": to_text,
        "text_to_image": to_image,
    }


_ENTRY = Made(
    name="clip-scenes",
    family="multimodal",
    description="CLIP: image and text transformers in one space, on scenes of coloured shapes.",
    build=Clip,
    make=_around,
    epochs=36,
    rate=3e-3,
    bar=0.8,
    source="ridge regression from pixels to counts of words finds 0.16 of them, chance 0.002",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
