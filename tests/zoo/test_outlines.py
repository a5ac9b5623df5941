from __future__ import annotations

import pytest
import torch

from edgekit import zoo
from edgekit.zoo._mnist import mnist
from edgekit.zoo._outlines import outlined, psnr


def test_pix2pix_is_better_than_the_best_linear_filter() -> None:
    data = mnist()
    trained, wanted = (torch.from_numpy(x) for x in (data.train_inputs[:500], data.test_inputs))
    unfold = torch.nn.Unfold(7, padding=3)
    seen = unfold(outlined(trained)).transpose(1, 2).reshape(-1, 49)
    filtered = torch.linalg.lstsq(seen, trained.reshape(-1, 1)).solution
    made = (unfold(outlined(wanted)).transpose(1, 2) @ filtered).reshape(wanted.shape).clamp(0, 1)
    baseline = psnr(made.numpy(), wanted.numpy())
    assert baseline == pytest.approx(20.4, abs=0.1)
    assert zoo.entry("pix2pix-mnist").bar >= baseline + 1.9
