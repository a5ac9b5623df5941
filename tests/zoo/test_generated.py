"""What generators make is not one image again and again."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit import zoo
from edgekit.reference import reference_predict
from edgekit.zoo._judge import digits_judge, mnist_judge


def figures(name: str) -> dict[str, float]:
    workload = zoo.load(name)
    assert workload.evaluate is not None
    with reference_predict(workload) as predict:
        return dict(workload.evaluate(predict))


def test_gans_make_every_class_in_many_ways() -> None:
    assert figures("dcgan-digits")["classes"] >= 8
    assert figures("cgan-digits")["variety"] >= 0.5


def test_real_digits_are_recognised_and_noise_is_not() -> None:
    judge = digits_judge()
    noise = np.random.default_rng(0).random((300, 1, 8, 8))
    assert judge.unasked(judge.real)["recognised"] >= 0.9
    assert judge.unasked(noise)["recognised"] <= 0.3
    assert mnist_judge().asked(mnist_judge().real, mnist_judge().labels)["recognised"] >= 0.95


def test_one_image_again_and_again_has_no_variety() -> None:
    judge = digits_judge()
    first = np.stack([judge.real[judge.labels == one][0] for one in range(10)])
    labels = np.arange(100) % 10
    assert judge.asked(first[labels], labels)["variety"] == pytest.approx(0.0)
