"""``zoo:graphormer-huckel``: a transformer over a molecule's atoms tells the gap of its orbitals.

Do Transformers Really Perform Bad for Graph Representation? (Ying et al., 2021), with its three
encodings: of centrality, each atom's number of bonds, added to its embedding; of space, a bias of
attention for each distance between two atoms; of edges, a bias that is the mean over the bonds on
the shortest path between them. A virtual node that is joined to all others gives the answer. The
paper predicts the gap between the highest filled and the lowest free orbital (PCQM4M); so does
this, for generated molecules whose gap Hueckel's method gives.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgekit.spec import BATCH, Array, Feeds
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._attention import Block
from edgekit.zoo._entry import Made
from edgekit.zoo._molecules import ATOMS, BONDS, FARTHEST, PATH, molecules

__all__ = ["ENTRIES", "workload"]

_WIDTH, _HEADS, _LAYERS = 48, 4, 4
_BATCH = 50
_TRAINED, _CALIBRATED, _JUDGED = 12000, 40, 250  # of each size


class _Graphormer(nn.Module):
    """``atoms`` (batch, nodes), ``distances`` (batch, nodes, nodes) and ``paths`` (batch, nodes,
    nodes, 5), int64, see :mod:`._molecules`, to ``gap`` (batch,). Atom 0 is padding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.atom = nn.Embedding(ATOMS, _WIDTH)
        self.centrality = nn.Embedding(FARTHEST + 1, _WIDTH)
        self.virtual = nn.Parameter(torch.randn(_WIDTH))
        self.space = nn.Embedding(FARTHEST + 1, _HEADS)
        self.edge = nn.Embedding(PATH * BONDS, _HEADS)
        self.to_virtual = nn.Parameter(torch.zeros(_HEADS, 1, 1))
        self.layers = nn.ModuleList(Block(_WIDTH, _HEADS) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, 1)
        for table in (self.space, self.edge):
            nn.init.zeros_(table.weight)

    def forward(
        self, atoms: torch.Tensor, distances: torch.Tensor, paths: torch.Tensor
    ) -> torch.Tensor:
        degree = (distances == 1).sum(2)
        x = self.atom(atoms) + self.centrality(degree)
        x = torch.cat([self.virtual.expand(x.shape[0], 1, -1), x], dim=1)
        bias = self._bias(atoms, distances, paths)
        for layer in self.layers:
            x = layer(x, bias)
        gap: torch.Tensor = self.head(self.norm(x[:, 0])).squeeze(-1)
        return gap

    def _bias(
        self, atoms: torch.Tensor, distances: torch.Tensor, paths: torch.Tensor
    ) -> torch.Tensor:
        """Of each head for each pair, (batch, heads, nodes + 1, nodes + 1)."""
        place = torch.arange(PATH, device=paths.device) * BONDS
        told = (paths != 0).unsqueeze(-1)
        edges = (self.edge(paths + place) * told).sum(3) / told.sum(3).clamp(min=1)
        pairs = (self.space(distances) + edges).permute(0, 3, 1, 2)
        column = self.to_virtual.expand(atoms.shape[0], -1, atoms.shape[1], 1)
        row = self.to_virtual.expand(atoms.shape[0], -1, 1, atoms.shape[1] + 1)
        whole = torch.cat([row, torch.cat([column, pairs], dim=3)], dim=2)
        there = functional.pad(atoms != 0, (1, 0), value=True)
        return whole.masked_fill(~there[:, None, None, :], -1e4)


def _learning(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of one size each, in random order."""
    generator = np.random.default_rng(epoch)
    sizes = molecules(_TRAINED, held_out=False)
    batches = [
        (size, chosen)
        for size in sizes
        for chosen in generator.permutation(_TRAINED).reshape(-1, _BATCH)
    ]
    for index in generator.permutation(len(batches)):
        size, chosen = batches[index]
        feeds = {**size.feeds(chosen), "label": size.gap[chosen]}
        yield {name: torch.from_numpy(array) for name, array in feeds.items()}


def _calibration() -> Iterator[Feeds]:
    for start in range(0, _CALIBRATED, 10):
        for size in molecules(_CALIBRATED, held_out=False):
            yield size.feeds(slice(start, start + 10))


def _evaluate(predict: Predict) -> dict[str, float]:
    sizes = molecules(_JUDGED, held_out=True)
    found: Array = np.concatenate([predict(size.feeds(slice(None)))["gap"] for size in sizes])
    wanted = np.concatenate([size.gap for size in sizes])
    error = float(((found - wanted) ** 2).mean())
    return {
        "r2": 1 - error / float(wanted.var()),
        "mean_error": float(np.abs(found - wanted).mean()),
    }


def _around(model: nn.Module) -> Workload:
    example = next(_calibration())
    return Workload(
        name=_ENTRY.name,
        model=model,
        example_inputs={name: torch.from_numpy(array[:2]) for name, array in example.items()},
        output_names=["gap"],
        dynamic_shapes={
            "atoms": {0: BATCH, 1: "nodes"},
            "distances": {0: BATCH, 1: "nodes", 2: "nodes"},
            "paths": {0: BATCH, 1: "nodes", 2: "nodes"},
        },
        pad={"atoms": 0, "distances": 0, "paths": 0},
        calibration=_calibration,
        evaluate=_evaluate,
        metric=Metric("r2"),
        training=Training(
            _learning,
            lambda outputs, batch: functional.smooth_l1_loss(
                outputs["gap"], batch["label"], beta=0.1
            ),
        ),
        description=_ENTRY.description,
    )


_ENTRY = Made(
    name="graphormer-huckel",
    family="embeddings and graphs",
    description="Graphormer on generated molecules: their orbital gap, by Hueckel's method.",
    bar=0.85,
    source="boosted trees on counts of atoms and bonds, by what they are between: 0.54",
    build=_Graphormer,
    make=_around,
    epochs=8,
    rate=2e-3,
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
