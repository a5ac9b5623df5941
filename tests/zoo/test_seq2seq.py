"""Decoding inside the exported graph gives what PyTorch gives, symbol by symbol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit import runtimes, zoo
from edgekit.workload import Workload
from edgekit.zoo import _dates
from edgekit.zoo._dates import dates, encode, iso
from edgekit.zoo._seq2seq import BEAM, Seq2Seq
from tests.conftest import READ_ONNX
from tests.zoo.on_engines import exported

COUNT = 200


@pytest.fixture(
    scope="module",
    params=["seq2seq-dates", pytest.param("seq2seq-dates-beam", marks=pytest.mark.slow)],
)
def graph(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workload, Path]:
    workload = zoo.load(request.param)
    return workload, exported(workload, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("runtime", READ_ONNX)
def test_each_symbol_is_pytorchs(graph: tuple[Workload, Path], runtime: str) -> None:
    workload, path = graph
    texts, _ = dates(COUNT, held_out=True)
    with torch.no_grad():
        wanted = dict(
            zip(workload.output_names, workload.model(torch.from_numpy(texts)), strict=True)
        )
    with runtimes.require(runtime).load(path) as session:
        got = session.run({"text": texts})
    for name, tensor in wanted.items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(got[name], tensor.numpy(), atol=2e-3)
        else:
            np.testing.assert_array_equal(got[name], tensor.numpy())


def test_beams_are_different_dates_the_likeliest_first() -> None:
    found, likelihood = _searched(dates(COUNT, held_out=True)[0])
    assert all(len({tuple(date) for date in beams}) == BEAM for beams in found.tolist())
    assert (likelihood.diff(dim=1) <= 0).all()


def test_the_log_probability_of_a_beam_is_that_of_its_date() -> None:
    texts, _ = dates(COUNT, held_out=True)
    found, likelihood = _searched(texts)
    first = found[:, 0]
    with torch.no_grad():
        scores = _network().decode(torch.from_numpy(texts), lambda step, _: first[:, step])
    taken = functional.log_softmax(scores, dim=-1).gather(-1, first.unsqueeze(-1))
    torch.testing.assert_close(likelihood[:, 0], taken.sum((1, 2)), atol=1e-4, rtol=1e-4)


def test_no_date_is_less_likely_by_beam_search_than_greedily() -> None:
    texts, _ = dates(COUNT, held_out=True)
    _, likelihood = _searched(texts)
    with torch.no_grad():
        scores, _ = _network()(torch.from_numpy(texts))
    greedy = functional.log_softmax(scores, dim=-1).amax(-1).sum(-1)
    assert (likelihood[:, 0] >= greedy - 1e-4).all()


@pytest.mark.parametrize(
    ("text", "date"),
    [("3rd of May 1998", "1998-05-03"), ("May 3, 1998", "1998-05-03"), ("5/3/1998", "1998-05-03"),
     ("03.05.98", "1998-05-03"), ("Sun, Nov 22, 2026", "2026-11-22"),
     ("7 Juen 2011", "2011-06-07")],
)  # fmt: skip
def test_a_date_is_read(text: str, date: str) -> None:
    with torch.no_grad():
        _, symbols = _network()(torch.from_numpy(encode([text])))
    assert iso(symbols.numpy()) == [date]


def test_no_date_that_is_held_out_is_learnt_from() -> None:
    learnt, held_out = (iso(dates(2000, held_out=held_out)[1]) for held_out in (False, True))
    assert set(learnt).isdisjoint(held_out)


def test_every_way_to_write_a_date_fits() -> None:
    texts, _ = dates(5000, held_out=False)
    assert texts.shape == (5000, _dates.WIDTH)
    assert (texts[:, -1] == 0).all()


def _network() -> Seq2Seq:
    model = zoo.load("seq2seq-dates").model
    assert isinstance(model, Seq2Seq)
    return model


def _searched(texts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        found, likelihood = zoo.load("seq2seq-dates-beam").model(torch.from_numpy(texts))
    return found, likelihood
