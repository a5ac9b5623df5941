"""``zoo:fcos-digits``: a one-stage detector without anchors, its NMS inside the graph.

FCOS (Tian et al., 2019) on one level: each cell of a grid of stride 4 says which digit it is in,
how far away the four sides are, and how near the middle it is. Then Fast NMS (Bolya et al., 2019,
YOLACT): a box goes where a better one of its class overlaps it, all of them compared at once.
All of that is plain tensor arithmetic, so every engine runs it, at any batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch import nn

from edgekit.reference import in_pieces
from edgekit.workload import Metric, Predict, Training, Workload
from edgekit.zoo._batches import in_order, shuffled
from edgekit.zoo._detection import centres, fcos_loss, mean_average_precision, survives, targets
from edgekit.zoo._entry import Made
from edgekit.zoo._fit import fit
from edgekit.zoo._layers import convolution
from edgekit.zoo._scenes import Layout, Scenes, scenes

__all__ = ["ENTRIES", "workload"]

_LAYOUT = Layout(side=64, most=4)
_STRIDE = 4
_CELLS = _LAYOUT.side // _STRIDE
_WIDTH = 40
_FOUND = 16
_LEAST = 0.2
_BATCH = 10
_TRAINED, _CALIBRATED, _JUDGED = 1500, 100, 300


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(convolution(_WIDTH, _WIDTH), convolution(_WIDTH, _WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = x + self.body(x)
        return made


class _Fcos(nn.Module):
    """Float32 images (n, 1, 64, 64) to what each of the 256 cells says.

    Logits (n, 256, 10), boxes (n, 256, 4) in pixels, logits of centre-ness (n, 256).
    """

    middle: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 16, 2), convolution(16, _WIDTH, 2), _Block(), _Block()
        )
        self.classes = nn.Sequential(convolution(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, 10, 1))
        self.place = nn.Sequential(convolution(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, 5, 1))
        last = self.classes[-1]
        assert isinstance(last.bias, nn.Parameter)
        nn.init.constant_(last.bias, -4.6)  # all cells begin as background, at 0.01
        self.register_buffer("middle", centres(_CELLS, _STRIDE), persistent=False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.body(image.clamp(0, 1))
        logits = self.classes(x).flatten(2).transpose(1, 2)
        place = self.place(x).flatten(2).transpose(1, 2)
        sides = place[..., :4].clamp(max=4).exp() * _STRIDE
        boxes = torch.cat([self.middle - sides[..., :2], self.middle + sides[..., 2:]], -1)
        return logits, boxes, place[..., 4]


class _Detector(nn.Module):
    """Float32 images (n, 1, 64, 64) to the 16 best detections in each, in reading order.

    Boxes (n, 16, 4) in pixels, scores (n, 16) and digits int64 (n, 16); all 0 behind the last.
    In reading order a small error of a score moves no box to another place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cells = _Fcos()

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, boxes, centreness = self.cells(image)
        best, digits = logits.max(-1)
        scores = (best.sigmoid() * centreness.sigmoid()).sqrt()
        scores = torch.where(survives(boxes, scores, digits), scores, 0.0)
        scores, places = scores.topk(_FOUND)
        last = boxes.shape[1]
        there = scores > _LEAST
        # Distinct numbers below 2048, so that half precision holds them, too.
        order = torch.where(there, last - places.to(scores.dtype), 0.0).topk(_FOUND).indices
        places, there, scores = (x.gather(1, order) for x in (places, there, scores))
        chosen = boxes.gather(1, places[..., None].expand(-1, -1, 4))
        return (
            torch.where(there[..., None], chosen, 0.0),
            torch.where(there, scores, 0.0),
            torch.where(there, digits.gather(1, places), 0),
        )


def _around(model: nn.Module) -> Workload:
    def evaluate(predict: Predict) -> dict[str, float]:
        truth = _held_out()
        found = in_pieces(predict, _BATCH)({"image": truth.images})
        return {
            "map50": mean_average_precision(found["boxes"], found["scores"], found["digits"], truth)
        }

    return Workload(
        name="fcos-digits",
        model=model,
        example_inputs={"image": torch.zeros(2, 1, _LAYOUT.side, _LAYOUT.side)},
        output_names=["boxes", "scores", "digits"],
        calibration=lambda: in_order({"image": _calibration().images}, _BATCH),
        evaluate=evaluate,
        metric=Metric("map50"),
        finetune=_train,
        description=_ENTRY.description,
    )


def _train(model: nn.Module, epochs: int, rate: float = 1e-3) -> None:
    """Train what the cells say: there is no gradient through NMS."""
    assert isinstance(model, _Detector)
    cells = Workload(
        name="fcos-digits, cells",
        model=model.cells,
        example_inputs={"image": torch.zeros(2, 1, _LAYOUT.side, _LAYOUT.side)},
        output_names=["logits", "boxes", "centreness"],
        training=Training(
            _batches,
            lambda outputs, batch: fcos_loss(
                outputs["logits"], outputs["boxes"], outputs["centreness"], batch
            ),
        ),
    )
    fit(cells, model.cells, epochs=epochs, rate=rate)
    model.eval()


def _batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    made = scenes(_TRAINED, _LAYOUT, seed=epoch, held_out=False)
    wanted = targets(made, _CELLS, _STRIDE)
    yield from shuffled({"image": made.images, **wanted}, _BATCH, epoch)


@cache
def _calibration() -> Scenes:
    return scenes(_CALIBRATED, _LAYOUT, seed=1000, held_out=False)


@cache
def _held_out() -> Scenes:
    return scenes(_JUDGED, _LAYOUT, seed=0, held_out=True)


_EPOCHS, _RATE = 14, 4e-3
_ENTRY = Made(
    name="fcos-digits",
    family="dense prediction",
    description="FCOS with Fast NMS in the graph, on MNIST digits pasted on photographs, 64x64.",
    bar=0.8,
    source="mean average precision at an IoU of 0.5 that one-stage detectors reach on PASCAL VOC",
    build=_Detector,
    make=_around,
    fit=lambda model: _train(model, _EPOCHS, _RATE),
)
ENTRIES = (_ENTRY,)
workload = _ENTRY.workload
