from __future__ import annotations

import torch
from torch import nn

from edgekit.zoo import dilated


def test_a_pixel_of_a_class_map_sees_41_pixels() -> None:
    model = dilated._build().eval()
    assert isinstance(model, nn.Sequential)
    image = torch.rand(1, 1, 96, 96, requires_grad=True)
    maps = model[:-2](image)
    assert maps.shape == (1, 10, 48, 48)
    (gradient,) = torch.autograd.grad(maps[0, :, 24, 24].square().sum(), image)
    rows = gradient[0, 0].abs().sum(dim=1).nonzero().flatten()
    assert (rows[0], rows[-1]) == (48 - 20, 48 + 20)
