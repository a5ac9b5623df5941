from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from edgekit.zoo import capsule


def test_squash_keeps_the_direction_and_bounds_the_length() -> None:
    x = torch.tensor([[3.0, 4.0], [0.03, 0.04]])
    squashed = capsule._squash(x)
    torch.testing.assert_close(functional.normalize(squashed), functional.normalize(x))
    wanted = torch.tensor([25 / 26, 0.0025 / 1.0025])
    torch.testing.assert_close(squashed.norm(dim=1), wanted, rtol=1e-3, atol=1e-5)


def test_routing_is_the_procedure_of_the_paper() -> None:
    torch.manual_seed(0)
    votes = torch.randn(2, 10, 6, 16)
    logits = torch.zeros(2, 6, 10)
    for _ in range(3):
        shares = logits.softmax(2)
        digits = capsule._squash(torch.einsum("nij,njid->njd", shares, votes))
        logits = logits + torch.einsum("njd,njid->nij", digits, votes)
    torch.testing.assert_close(capsule._route(votes), digits)


def test_routing_prefers_a_digit_whose_votes_agree() -> None:
    torch.manual_seed(0)
    votes = torch.randn(1, 10, 20, 16) * 0.3
    votes[:, 7] = torch.randn(16) * 0.3
    assert capsule._route(votes).norm(dim=2).argmax() == 7


@pytest.mark.parametrize(
    ("lengths", "loss"), [((0.95, 0.05), 0.0), ((0.4, 0.05), 0.25), ((0.95, 0.5), 0.08)]
)
def test_margin_loss(lengths: tuple[float, float], loss: float) -> None:
    given = torch.zeros(1, 10)
    given[0, :2] = torch.tensor(lengths)
    assert capsule._margin_loss(given, torch.tensor([0])) == pytest.approx(loss, abs=1e-6)


def test_images_of_a_batch_do_not_change_each_other() -> None:
    torch.manual_seed(0)
    model = capsule.workload().model
    images = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), alone, rtol=1e-4, atol=1e-5)
