"""Models that tell how likely a digit is: below what simpler models of the same pixels need."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.zoo import pixelcnn
from edgekit.zoo._levels import LEVELS, PIXELS, held_out_levels, train_levels


@pytest.fixture(scope="module")
def histogram_bits() -> float:
    """Bits a pixel by a histogram of each, with one more count everywhere."""
    trained, held_out = (x.reshape(-1, PIXELS) for x in (train_levels(), held_out_levels()))
    counts = np.stack([np.bincount(column, minlength=LEVELS) for column in trained.T]) + 1.0
    probability = counts / counts.sum(1, keepdims=True)
    return float(-np.log2(probability[np.arange(PIXELS), held_out]).mean())


@pytest.fixture(scope="module")
def gaussian_bits() -> float:
    """Bits a pixel by a Gaussian of full covariance, of levels made continuous."""
    generator = np.random.default_rng(0)
    trained, held_out = (
        x.reshape(-1, PIXELS) + generator.random((len(x), PIXELS))
        for x in (train_levels(), held_out_levels())
    )
    away = held_out - trained.mean(0)
    covariance = np.cov(trained.T)
    distance = (away * np.linalg.solve(covariance, away.T).T).sum(1).mean()
    nats = (distance + np.linalg.slogdet(covariance)[1] + PIXELS * math.log(2 * math.pi)) / 2
    return float(nats / PIXELS / math.log(2))


@pytest.mark.parametrize("name", ["vae-digits", "realnvp-digits", "pixelcnn-digits"])
def test_the_bar_is_below_the_measured_baselines(
    name: str, histogram_bits: float, gaussian_bits: float
) -> None:
    assert histogram_bits == pytest.approx(2.44, abs=0.01)
    assert gaussian_bits == pytest.approx(2.96, abs=0.01)
    assert zoo.entry(name).bar <= histogram_bits - 0.2


def test_a_pixel_is_told_by_those_before_it_only() -> None:
    model = zoo.load("pixelcnn-digits").model
    assert isinstance(model, torch.nn.Module)
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for place in (0, 1, 9, 20, 37, 63):
        told = model(image)[0, :, place // 8, place % 8].square().sum()
        (gradient,) = torch.autograd.grad(told, image)
        seen = gradient.flatten() != 0
        assert not seen[place:].any()
        assert seen[max(place - 1, 0)] == (place > 0)


def test_pixelcnn_draws_images_as_likely_as_real_ones() -> None:
    workload = zoo.load("pixelcnn-digits")
    assert workload.evaluate is not None
    with reference_predict(workload) as predict:
        image = pixelcnn.sample(predict, 50, seed=0)
        logits = torch.from_numpy(predict({"image": image})["logits"])
        real = workload.evaluate(predict)["bits_per_pixel"]
    levels = torch.from_numpy(np.rint(image * (LEVELS - 1)).astype(np.int64))
    drawn = torch.nn.functional.cross_entropy(logits, levels[:, 0]).item() / math.log(2)
    assert drawn == pytest.approx(real, abs=0.2)


def test_the_flow_is_exact_backwards_and_so_is_its_determinant() -> None:
    flow = zoo.load("realnvp-digits").model
    assert isinstance(flow, torch.nn.Module)
    levels = torch.from_numpy(held_out_levels()[:20])
    image = (levels + 0.5) / LEVELS
    with torch.no_grad():
        bits, latent = flow(image)
        torch.testing.assert_close(flow.inverse(latent), image, atol=1e-4, rtol=0)
    one = image[:1].double()
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.double()(x)[1][0], one)
    volume = torch.linalg.slogdet(jacobian.reshape(PIXELS, PIXELS))[1]
    normal = (latent[0].double().square().sum() + PIXELS * math.log(2 * math.pi)) / 2
    by_hand = (normal - volume) / (PIXELS * math.log(2)) + math.log2(LEVELS)
    assert by_hand.item() == pytest.approx(bits[0].item(), abs=1e-4)
