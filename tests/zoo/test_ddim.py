from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.zoo import ddim
from edgekit.zoo._diffusion import ancestral, shares
from tests.zoo.on_engines import assert_same_on_engines


@pytest.mark.slow
def test_the_sampler_gives_the_same_images_everywhere_for_the_same_seed(tmp_path: Path) -> None:
    workload = zoo.load("ddim-digits")
    feeds = ddim._noise_and_labels(20, seed=7)
    assert_same_on_engines(workload, feeds, tmp_path, atol=1e-4)


def test_the_images_differ_from_noise_to_noise() -> None:
    for name in ("ddim-digits", "ddpm-digits"):
        workload = zoo.load(name)
        assert workload.evaluate is not None
        with reference_predict(workload) as predict:
            assert workload.evaluate(predict)["variety"] >= 0.6


def test_a_label_asks_for_a_class() -> None:
    workload = zoo.load("ddim-digits")
    feeds = ddim._noise_and_labels(10, seed=0)
    with reference_predict(workload) as predict:
        first = predict(feeds)["image"]
        others = predict({**feeds, "label": (feeds["label"] + 1) % 10})["image"]
    judged = ddim.digits_judge()
    shown = [judged.probabilities(images).argmax(1) for images in (first, others)]
    assert (shown[0] != shown[1]).mean() >= 0.9


def test_steps_of_the_ancestral_sampler_keep_the_noise_of_their_time() -> None:
    """With a network that is right, a step's result is image and noise in its time's shares."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((20000, 1, 1, 1), 0.5)
    now, then = torch.full((20000,), 0.6), torch.full((20000,), 0.3)
    (a, s), (next_a, next_s) = (tuple(x[0] for x in shares(time)) for time in (now, then))
    noise, fresh = torch.randn(2, 20000, 1, 1, 1, generator=generator)
    x = a * image + s * noise
    made = ancestral(lambda *_: a * noise - s * image, x, now, then, 1.0, fresh)
    assert abs(made.mean() - next_a * 0.5) < 0.02
    assert abs(made.std() - next_s) < 0.02
