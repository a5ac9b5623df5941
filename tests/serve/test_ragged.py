"""Requests of several lengths in one batch, for a model that says it ignores what is filled in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.bundle import Bundle
from edgekit.compress.recipe import load_recipe
from edgekit.pipeline import make_bundle
from edgekit.serve.config import ModelConfig, ServerConfig
from edgekit.serve.repository import Repository
from edgekit.spec import BATCH, Feeds
from edgekit.targets import parse_targets
from edgekit.workload import Workload

WORDS = 50


class MaskedMean(nn.Module):
    """The mean of the words' vectors, and each word's own score."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = self.words(ids) * mask.unsqueeze(-1)
        mean = vectors.sum(1) / mask.sum(1, keepdim=True)
        return self.head(mean), vectors.sum(-1)


def _sentence(make: np.random.Generator, samples: int, length: int) -> Feeds:
    ids = make.integers(1, WORDS, (samples, length))
    return {"ids": ids, "mask": np.ones((samples, length), np.float32)}


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    example = {"ids": torch.ones(2, 5, dtype=torch.int64), "mask": torch.ones(2, 5)}
    workload = Workload(
        "masked",
        MaskedMean(),
        example,
        output_names=["mean", "scores"],
        dynamic_shapes={name: {0: BATCH, 1: "length"} for name in example},
        pad={"ids": 0, "mask": 0},
    )
    path = tmp_path_factory.mktemp("masked") / "masked.edge"
    make_bundle(
        workload, path, recipe=load_recipe("fp32"), targets=parse_targets(["onnxruntime"], None)
    )
    return path


def test_the_bundle_says_with_what_its_inputs_are_filled_up(masked: Path) -> None:
    assert Bundle.open(masked).manifest.pad == {"ids": 0.0, "mask": 0.0}


def test_ragged_requests_run_together_and_get_their_own_results(masked: Path) -> None:
    make = np.random.default_rng(0)
    asked = [_sentence(make, 1 + i % 2, 3 + i) for i in range(6)]

    async def work() -> None:
        one = ModelConfig(threads=1, max_queue_delay_ms=200)
        repository = Repository(masked, ServerConfig(defaults=one))
        await repository.start()
        model = repository.find("masked")
        alone = [(await model.infer(feeds)).outputs for feeds in asked]
        runs = sum(count.infer.count for count in model.statistics.batches.values())
        together = await asyncio.gather(*(model.infer(feeds) for feeds in asked))
        batches = sum(count.infer.count for count in model.statistics.batches.values()) - runs
        assert batches == 1
        for right, got in zip(alone, together, strict=True):
            assert got.outputs["scores"].shape == right["scores"].shape
            for name, array in right.items():
                np.testing.assert_allclose(got.outputs[name], array, rtol=1e-5, atol=1e-6)
        await repository.close()

    asyncio.run(asyncio.wait_for(work(), 60))
