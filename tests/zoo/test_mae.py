from __future__ import annotations

import torch

from edgekit.zoo import mae
from edgekit.zoo._mnist import mnist


@torch.no_grad()
def test_what_is_not_seen_changes_nothing() -> None:
    model = mae.workload().model
    images = torch.from_numpy(mnist().test_inputs[:4])
    seen = mae._seen(4, torch.Generator().manual_seed(1))
    hidden = torch.ones(4, 49).scatter(1, seen, 0.0)
    mask = hidden.view(4, 1, 7, 7).repeat_interleave(4, 2).repeat_interleave(4, 3) > 0
    noise = torch.where(mask, torch.rand(images.shape), images)
    for one, other in zip(model(images, seen), model(noise, seen), strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_the_order_in_which_patches_are_told_does_not_matter() -> None:
    model = mae.workload().model
    images = torch.from_numpy(mnist().test_inputs[:4])
    seen = mae._seen(4, torch.Generator().manual_seed(1))
    for one, other in zip(model(images, seen), model(images, seen.flip(1)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
