from __future__ import annotations

import numpy as np
import pytest

from edgekit.zoo import denoiser


def test_psnr_is_that_of_the_definition() -> None:
    truth = np.zeros((2, 1, 4, 4), np.float32)
    images = np.stack([truth[0] + 0.1, truth[1] + 0.01])
    assert denoiser.psnr(images, truth) == pytest.approx((20 + 40) / 2, abs=1e-4)


def test_the_noise_is_what_the_docstring_says_and_is_not_reused() -> None:
    noisy, clean = denoiser._noisy(held_out=True)
    assert float((noisy - clean).std()) == pytest.approx(0.3, abs=0.001)
    assert denoiser.psnr(noisy, clean) == pytest.approx(10.46, abs=0.05)
    calibrated = denoiser._noisy(held_out=False)
    assert not np.allclose((calibrated[0] - calibrated[1])[:100], (noisy - clean)[:100], atol=0.1)


def test_each_epoch_has_noise_of_its_own_and_the_same_again() -> None:
    batches = denoiser._training().batches
    first, again, second = (next(iter(batches(epoch)))["noisy"] for epoch in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(second)
