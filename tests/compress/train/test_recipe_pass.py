"""The step ``distill`` of a recipe."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit import zoo
from edgekit.compress.base import ModuleContext
from edgekit.compress.modules import check_module
from edgekit.compress.recipe import load_recipe
from edgekit.compress.train.recipe_pass import Distillation
from edgekit.compress.train.settings import Distill
from edgekit.errors import RecipeError
from edgekit.workload import Workload
from edgekit.zoo import mlp_digits


def _damaged(workload: Workload) -> tuple[Workload, ModuleContext]:
    """The workload with noise in its weights, and a context that has its original as teacher."""
    original = workload.model
    assert isinstance(original, nn.Module)
    model = copy.deepcopy(original)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.3 * parameter.std() * noise)
    workload.model = model
    return workload, ModuleContext(teacher=original)


def test_the_loss_falls_and_the_report_says_so() -> None:
    workload, context = _damaged(mlp_digits.workload())
    made = Distillation(type="distill", epochs=2).apply(workload, context)
    check_module(workload, made.model, "distill")
    assert made.report.details[0] == "2 of 2 epochs"
    words = made.report.details[1].replace(",", "").split()
    assert (words[0], words[2], words[4]) == ("Loss", "before", "after")
    assert float(words[3]) < float(words[1])


@pytest.mark.slow
def test_an_embedding_learns_from_sentences_without_labels() -> None:
    loaded = zoo.load("minilm")
    workload, context = _damaged(replace(loaded, unlabelled=lambda epoch: _few(loaded, epoch)))
    before = _cosine(workload, context, workload.model)
    made = Distillation(type="distill", epochs=2, rate=1e-4, distill=Distill(attention=True))
    model = made.apply(workload, context).model
    assert _cosine(workload, context, model) > before + 0.05


def _few(workload: Workload, epoch: int) -> Iterator[Mapping[str, torch.Tensor]]:
    assert workload.unlabelled is not None
    for batch in islice(workload.unlabelled(epoch), 12):
        yield {name: tensor[:12] for name, tensor in batch.items()}


@torch.no_grad()
def _cosine(workload: Workload, context: ModuleContext, model: object) -> float:
    assert isinstance(model, nn.Module)
    assert context.teacher is not None
    found = []
    for feeds in workload.feeds():
        inputs = [torch.from_numpy(feeds[name]) for name in workload.example_inputs]
        found.append((model(*inputs) * context.teacher(*inputs)).sum(1))
    return float(torch.cat(found).mean())


def _recipe(folder: Path, keys: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(f"name: my\npasses:\n  - {{type: distill, {keys}}}\n")
    return path


def test_its_keys_are_those_of_a_recipe(tmp_path: Path) -> None:
    keys = "epochs: 3, patience: 2, distill: {features: ['a.*', [b, c]], outputs: cosine}"
    (step,) = load_recipe(str(_recipe(tmp_path, keys))).module_passes
    assert isinstance(step, Distillation)
    assert step.distill.features == ("a.*", ("b", "c"))
    assert (step.epochs, step.patience, step.distill.outputs) == (3, 2, "cosine")


@pytest.mark.parametrize(
    "keys",
    ["epochs: 0", "distill: {temperature: 0}", "distill: {weight: 2}", "distill: {outputs: l1}"],
)
def test_values_without_a_meaning_are_refused(keys: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError):
        load_recipe(str(_recipe(tmp_path, keys)))
