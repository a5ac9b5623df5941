from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import nn

from edgekit.zoo import _episodes, _fewshot, anil, metaoptnet, protonet
from edgekit.zoo._episodes import Episode

LEARNERS = pytest.mark.parametrize("module", [protonet, metaoptnet, anil])


def _episode(ways: int, shots: int) -> Episode:
    generator = torch.Generator().manual_seed(ways)
    return _episodes.episode(_episodes.unseen(), ways, shots, 4, generator)


def _model(module: object) -> nn.Module:
    model = module.workload().model  # type: ignore[attr-defined]
    assert isinstance(model, nn.Module)
    return model


@LEARNERS
def test_the_classes_have_no_order(module: object) -> None:
    one, order = _episode(4, 3), [2, 0, 3, 1]
    model = _model(module)
    with torch.no_grad():
        scores = model(one.support, one.query)
        moved = model(one.support[order], one.query)
    torch.testing.assert_close(moved, scores[:, order], rtol=1e-3, atol=1e-3)


@LEARNERS
def test_more_drawings_make_it_better(module: object) -> None:
    model = _model(module)

    def accuracy(shots: int) -> float:
        with torch.no_grad():
            right = [
                model(one.support[:, :shots], one.query).argmax(1) == one.label
                for one in _episodes.held_out()[:40]
            ]
        return torch.cat(right).float().mean().item()

    assert accuracy(5) > accuracy(1) + 0.03 > 0.78


def _encoded(one: Episode) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features of the drawings, their classes, and features of the queries."""
    with torch.no_grad():
        known, asked = _fewshot.encode(_model(metaoptnet).encoder, one.support, one.query)
    return *_fewshot.samples(known), asked


def test_the_unrolled_solver_finds_the_support_vector_machine() -> None:
    drawings, classes, _ = _encoded(_episode(5, 5))
    wanted = LinearSVC(
        C=0.1, multi_class="crammer_singer", fit_intercept=False, tol=1e-6, max_iter=100_000
    ).fit(drawings.numpy(), classes.argmax(1).numpy())
    many = metaoptnet.svm(drawings @ drawings.T, classes, steps=2000).T @ drawings
    np.testing.assert_allclose(many.numpy(), wanted.coef_, atol=2e-3 * np.abs(wanted.coef_).max())


def test_its_few_steps_keep_the_constraints_and_classify_as_the_solution_does() -> None:
    reached, alike = [], []
    for one in _episodes.held_out()[:8]:
        drawings, classes, asked = _encoded(one)
        kernel = drawings @ drawings.T
        few, many = (metaoptnet.svm(kernel, classes, steps) for steps in (15, 100))
        torch.testing.assert_close(few.sum(1), torch.zeros(25), rtol=0, atol=1e-5)
        assert (few <= 0.1 * classes + 1e-6).all()
        costs = [float((x.T @ kernel @ x).trace() / 2 - (classes * x).sum()) for x in (few, many)]
        reached.append(costs[0] / costs[1])
        first, second = ((asked @ (x.T @ drawings).T).argmax(1) for x in (few, many))
        alike.append(first == second)
    assert np.mean(reached) > 0.85
    assert torch.cat(alike).float().mean() > 0.96


def test_large_inputs_cost_the_solver_no_digits() -> None:
    drawings, classes, _ = _encoded(_episode(5, 5))
    drawings = drawings * 1000
    exact = drawings.double()
    wanted = metaoptnet.svm(exact @ exact.T, classes.double()).T @ exact
    found = metaoptnet.svm(drawings @ drawings.T, classes).T @ drawings
    torch.testing.assert_close(
        found.double(), wanted, rtol=0, atol=1e-4 * wanted.abs().max().item()
    )
