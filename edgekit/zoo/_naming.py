"""How features of scenes of coloured shapes are learnt, before anything is asked about them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._batches import shuffled
from edgekit.zoo._things import COLOURS, SHAPES, SIZES, crowds, render

__all__ = ["name_things"]

_SCENES, _BATCH, _EPOCHS = 8192, 64, 3
#: Of the first epoch's scenes.
_SEED = 2 * 10**6


def name_things(stem: nn.Module, channels: int, rate: float) -> None:
    """Train it so that a linear layer tells each cell's size, colour and shape, if any.

    Args:
        stem: images (n, 3, 32, 32) to maps (n, channels, 4, 4).
        channels: of its maps.
        rate: of AdamW.
    """
    values = [1 + len(one) for one in (SIZES, COLOURS, SHAPES)]
    head = nn.Conv2d(channels, sum(values), 1)
    optimizer = torch.optim.AdamW([*stem.parameters(), *head.parameters()], rate)
    for epoch in range(_EPOCHS):
        generator = np.random.default_rng(_SEED + epoch)
        kinds = crowds(_SCENES, generator, held_out=False)
        parts = np.unravel_index(kinds.clip(0), [one - 1 for one in values])
        things = np.where(kinds < 0, 0, 1 + np.stack(parts)).transpose(1, 0, 2)
        data = {"image": render(kinds, generator), "things": things}
        for batch in shuffled(data, _BATCH, epoch):
            cells = head(functional.avg_pool2d(stem(batch["image"]), 2)).flatten(2)
            scores = cells.split(values, dim=1)
            named = batch["things"].unbind(1)
            loss = torch.stack(
                [functional.cross_entropy(*pair) for pair in zip(scores, named, strict=True)]
            ).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
