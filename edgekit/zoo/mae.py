"""``zoo:mae-mnist``: a masked autoencoder, trained without labels.

"Masked Autoencoders Are Scalable Vision Learners" (He et al., 2021): the encoder sees a quarter of
an image's patches and nothing else; a smaller decoder gets what it made of them, a learnt token in
place of each other patch, and paints the image. The loss is that of the patches not seen.

It is judged by the error of the painted patches that it has not seen, as PSNR: all of it is, while
a linear probe would judge the encoder alone, and such features of digits are for fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn

from edgekit.spec import Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._encoder import Attention, EncoderBlock
from edgekit.zoo._entry import Made
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "workload"]

_PATCH = 4
_PATCHES = (28 // _PATCH) ** 2
_SEEN = 12
_BATCH = 50
_MEAN, _SPREAD = 0.13, 0.31


class _MaskedAutoencoder(nn.Module):
    """Images (n, 1, 28, 28), float32 in [0, 1], and which patches are seen, int64 (n, seen).

    Returns the painted patches (n, 49, 16) and the features of what was seen (n, 64). How many
    patches are seen is up to the call; all of them give the features of the whole image.
    """

    positions: torch.Tensor
    places: torch.Tensor

    def __init__(self, width: int = 64, narrow: int = 48) -> None:
        super().__init__()
        self.embed = nn.Linear(_PATCH**2, width)
        self.register_buffer("positions", _waves(width), persistent=False)
        self.encoder = nn.Sequential(*(EncoderBlock(width, Attention(width, 4)) for _ in range(3)))
        self.norm = nn.LayerNorm(width)
        self.narrow = nn.Linear(width, narrow)
        self.unseen = nn.Parameter(torch.randn(1, 1, narrow) * 0.02)
        self.register_buffer("places", _waves(narrow), persistent=False)
        self.decoder = nn.Sequential(
            *(EncoderBlock(narrow, Attention(narrow, 4)) for _ in range(2))
        )
        self.paint = nn.Sequential(nn.LayerNorm(narrow), nn.Linear(narrow, _PATCH**2))

    def forward(self, image: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self.embed((_patches(image) - _MEAN) / _SPREAD) + self.positions
        encoded = self.norm(self.encoder(tokens.gather(1, _along(seen, tokens))))
        narrow = self.narrow(encoded)
        blank = self.unseen.expand(len(image), _PATCHES, -1)
        painted = self.decoder(blank.scatter(1, _along(seen, narrow), narrow) + self.places)
        return self.paint(painted), encoded.mean(1)


def _waves(width: int) -> torch.Tensor:
    """Sines and cosines of each patch's row and column (1, 49, width), as in the paper."""
    side = 28 // _PATCH
    turns = 0.25 * 8.0 ** -torch.linspace(0, 1, width // 4)
    angles = 2 * torch.pi * torch.arange(side)[:, None] * turns[None]
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    both = [line.repeat_interleave(side, 0), line.repeat(side, 1)]
    return torch.cat(both, dim=1).unsqueeze(0)


def _patches(image: torch.Tensor) -> torch.Tensor:
    """(n, 1, 28, 28) to (n, 49, 16)."""
    cut = image.squeeze(1).unflatten(1, (-1, _PATCH)).unflatten(3, (-1, _PATCH))
    return cut.transpose(2, 3).flatten(3).flatten(1, 2)


def _along(index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return index.unsqueeze(2).expand(-1, -1, values.shape[2])


def _seen(count: int, generator: torch.Generator) -> torch.Tensor:
    """A quarter of the patches of each image, at random."""
    return torch.rand(count, _PATCHES, generator=generator).argsort(1)[:, :_SEEN]


def _all(count: int) -> torch.Tensor:
    return torch.arange(_PATCHES).repeat(count, 1)


def _around(model: nn.Module) -> Workload:
    data = mnist()
    images = torch.from_numpy(data.train_inputs)
    return Workload(
        name="mae-mnist",
        model=model,
        example_inputs={"image": images[:2], "seen": _seen(2, torch.Generator().manual_seed(0))},
        output_names=["painted", "features"],
        dynamic_shapes={"image": {0: "batch"}, "seen": {0: "batch", 1: "seen"}},
        calibration=lambda: _calibration(images),
        evaluate=lambda predict: _evaluate(predict, data.test_inputs),
        metric=Metric("psnr", max_drop=0.14),  # 1 % of it
        training=Training(lambda epoch: _batches(images, epoch), _loss),
        description="Masked autoencoder that sees 12 of a digit's 49 patches.",
    )


def _calibration(images: torch.Tensor) -> Iterator[Feeds]:
    """Whole images, and as many of which little is seen."""
    generator = torch.Generator().manual_seed(0)
    for chosen in images[:1000].split(_BATCH):
        for seen in (_all(len(chosen)), _seen(len(chosen), generator)):
            yield {"image": chosen.numpy(), "seen": seen.numpy()}


def _batches(images: torch.Tensor, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(epoch)
    for chosen in torch.randperm(len(images), generator=generator).split(_BATCH):
        image = augment(images[chosen], generator)
        yield {"image": image, "seen": _seen(len(image), generator)}


def _loss(outputs: Mapping[str, torch.Tensor], batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    wanted = _patches(batch["image"])
    hidden = torch.ones(wanted.shape[:2]).scatter(1, batch["seen"], 0.0)
    return ((outputs["painted"] - wanted).square().mean(2) * hidden).sum() / hidden.sum()


def _evaluate(predict: Predict, images: Array) -> dict[str, float]:
    """The PSNR of the patches not seen."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for start in range(0, len(images), 100):
        image = images[start : start + 100]
        seen = _seen(len(image), generator).numpy()
        painted = predict({"image": image, "seen": seen})["painted"]
        errors.append(_hidden_errors(painted, image, seen))
    return {"psnr": float(-10 * np.log10(np.concatenate(errors).mean()))}


def _hidden_errors(painted: Array, image: Array, seen: Array) -> Array:
    errors = ((painted - _patches(torch.from_numpy(image)).numpy()) ** 2).mean(2)
    hidden = np.ones(errors.shape, bool)
    np.put_along_axis(hidden, seen, values=False, axis=1)
    found: Array = errors[hidden]
    return found


_ENTRY = Made(
    name="mae-mnist",
    family="transformers",
    description="Masked autoencoder that paints digits of MNIST of which it sees a quarter.",
    build=_MaskedAutoencoder,
    make=_around,
    epochs=54,
    rate=3e-3,
    bar=14.0,
    source="the best linear guess (Gaussian, by covariance): 13.8 dB; the mean digit: 11.6 dB",
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
