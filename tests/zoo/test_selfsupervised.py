from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo import byol, moco, simclr
from edgekit.zoo._mnist import mnist
from edgekit.zoo._selfsupervised import FEATURES, Method, _encoder, _views, probe

METHODS = [simclr._SimClr, moco._MoCo, byol._Byol]


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    return next(_views(0))


def test_two_views_of_a_digit_differ_and_are_the_same_in_each_run(
    views: tuple[torch.Tensor, torch.Tensor],
) -> None:
    first, second = views
    again, _ = next(_views(0))
    torch.testing.assert_close(first, again)
    assert first.shape == second.shape == (200, 1, 28, 28)
    assert (first - second).abs().mean() > 0.02
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("make", METHODS)
def test_a_step_gives_every_weight_of_the_encoder_a_gradient(
    make: type[nn.Module], views: tuple[torch.Tensor, torch.Tensor]
) -> None:
    torch.manual_seed(0)
    encoder = _encoder()
    loss = make(encoder)(*views)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_nt_xent_is_the_formula_of_the_paper(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    method = simclr._SimClr(_encoder())
    few = [side[:6] for side in views]
    z = functional.normalize(method.project(torch.cat(few)))
    similar = (z @ z.T / 0.5).exp()
    wanted = [
        -torch.log(similar[i, (i + 6) % 12] / (similar[i].sum() - similar[i, i])) for i in range(12)
    ]
    torch.testing.assert_close(method(*few), torch.stack(wanted).mean())


def test_mocos_queue_takes_the_newest_keys(views: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    method = moco._MoCo(_encoder())
    before = method.queue.clone()
    method(*views)
    torch.testing.assert_close(method.queue[200:], before[:-200])
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(len(before)))


@pytest.mark.parametrize(("make", "ahead", "behind", "share"), [
    (moco._MoCo, "query", "key", 0.01), (byol._Byol, "online", "target", 0.05),
])  # fmt: skip
def test_the_second_network_follows_and_is_not_trained(
    make: type[nn.Module], ahead: str, behind: str, share: float
) -> None:
    torch.manual_seed(0)
    method = make(_encoder())
    slow, fast = (list(getattr(method, one).parameters()) for one in (behind, ahead))
    before = slow[0].clone()
    with torch.no_grad():
        fast[0].add_(1.0)
    assert isinstance(method, Method)
    method.follow(0.0)
    torch.testing.assert_close(slow[0] - before, torch.full_like(before, share))
    assert not any(parameter.requires_grad for parameter in slow)


def test_byols_target_stands_still_at_the_end() -> None:
    method = byol._Byol(_encoder())
    with torch.no_grad():
        next(method.online.parameters()).add_(1.0)
    before = next(method.target.parameters()).clone()
    method.follow(1.0)
    torch.testing.assert_close(next(method.target.parameters()), before)


def test_the_probe_of_an_untrained_encoder_is_far_below_the_bars() -> None:
    torch.manual_seed(0)
    encoder = _encoder()
    with torch.no_grad():
        for _ in range(20):
            encoder(torch.from_numpy(mnist().train_inputs[:200]))
        encoder.eval()
        score = probe(
            lambda feeds: {"embedding": encoder(torch.from_numpy(feeds["image"])).numpy()}
        )
    assert FEATURES == 96
    assert score < min(one.ENTRIES[0].bar for one in (simclr, moco, byol)) - 0.15
