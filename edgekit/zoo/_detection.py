"""Boxes: Fast NMS, FCOS's targets and loss, and mean average precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from edgekit.spec import Array
from edgekit.zoo._scenes import Scenes

__all__ = ["centres", "fcos_loss", "mean_average_precision", "survives", "targets"]

#: Boxes that overlap by more are the same one.
_OVERLAP = 0.5
#: Cells whose centre is nearer than so many strides to a box's centre learn it.
_RADIUS = 1.5


def _iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes (..., 4): left, top, right, bottom; shapes broadcast."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(0)
    shared = size[..., 0] * size[..., 1]
    return shared / (_area(a) + _area(b) - shared).clamp(min=1e-6)


def _area(box: torch.Tensor) -> torch.Tensor:
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])


def centres(cells: int, stride: int) -> torch.Tensor:
    """Where the cells of a square grid are, float32 (cells * cells, 2): x and y in pixels."""
    middle = (torch.arange(cells) + 0.5) * stride
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def targets(made: Scenes, cells: int, stride: int) -> dict[str, Array]:
    """What each of the cells is to learn (Tian et al., 2019, with centre sampling).

    ``digit`` int64 (n, cells), -1 for background; ``box`` float32 (n, cells, 4); ``centreness``
    float32 (n, cells).
    """
    points = centres(cells, stride)
    boxes, digits = torch.from_numpy(made.boxes), torch.from_numpy(made.digits)
    sides = torch.cat([points - boxes[:, :, None, :2], boxes[:, :, None, 2:] - points], -1)
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    near = (points - middle[:, :, None]).abs().amax(-1) < _RADIUS * stride
    mine = near & (sides.amin(-1) > 0) & (digits >= 0)[..., None]  # (n, most, cells)
    area = torch.where(mine, _area(boxes)[..., None], torch.inf)
    least, which = area.min(1)
    found = torch.where(least < torch.inf, digits.gather(1, which), -1)
    index = which[:, None, :, None].expand(-1, 1, -1, 4)
    left, top, right, bottom = sides.gather(1, index)[:, 0].clamp(min=1e-3).unbind(-1)
    share = torch.minimum(left, right) / torch.maximum(left, right)
    share = share * torch.minimum(top, bottom) / torch.maximum(top, bottom)
    own = boxes.gather(1, which[..., None].expand(-1, -1, 4))
    return {"digit": found.numpy(), "box": own.numpy(), "centreness": share.sqrt().numpy()}


def fcos_loss(
    logits: torch.Tensor,
    boxes: torch.Tensor,
    centreness: torch.Tensor,
    batch: Mapping[str, torch.Tensor],
) -> torch.Tensor:
    """Focal loss of the classes, generalized IoU of the boxes, cross-entropy of centre-ness.

    Args:
        logits: (n, cells, classes).
        boxes: (n, cells, 4).
        centreness: logits (n, cells).
        batch: with the :func:`targets`.
    """
    inside = batch["digit"] >= 0
    count = inside.sum().clamp(min=1)
    wanted = functional.one_hot(batch["digit"] + 1, logits.shape[-1] + 1)[..., 1:].float()
    wrong = (logits.sigmoid() - wanted).abs()
    balance = 0.25 * wanted + 0.75 * (1 - wanted)
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focal = (balance * wrong**2 * entropy).sum() / count
    got, true = boxes[inside], batch["box"][inside]
    weight = batch["centreness"][inside]
    hull = torch.cat([torch.minimum(got, true)[:, :2], torch.maximum(got, true)[:, 2:]], -1)
    union = (_area(got) + _area(true)) / (1 + _iou(got, true))
    distance = 1 - _iou(got, true) + (_area(hull) - union) / _area(hull)
    regression = (distance * weight).sum() / weight.sum().clamp(min=1e-6)
    centre = functional.binary_cross_entropy_with_logits(centreness[inside], weight)
    return focal + regression + centre


def survives(boxes: torch.Tensor, scores: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
    """Fast NMS: whether no better box of the same digit overlaps it; of equals the first."""
    place = torch.arange(boxes.shape[1])
    better = scores[:, :, None] > scores[:, None]
    equal = (scores[:, :, None] == scores[:, None]) & (place[:, None] < place)
    rivals = (better | equal) & (digits[:, :, None] == digits[:, None])
    overlap = _iou(boxes[:, :, None], boxes[:, None])
    return torch.where(rivals, overlap, 0.0).amax(1) <= _OVERLAP


def mean_average_precision(boxes: Array, scores: Array, digits: Array, truth: Scenes) -> float:
    """Mean over the ten digits of the area below precision against recall, at an IoU of 0.5.

    Args:
        boxes: (n, detections, 4).
        scores: (n, detections), 0 where there is none.
        digits: (n, detections).
        truth: what is there.
    """
    overlap = _iou(torch.from_numpy(boxes)[:, :, None], torch.from_numpy(truth.boxes)[:, None])
    return float(
        np.mean(
            [
                _average(scores * (digits == d), overlap.numpy(), truth.digits == d)
                for d in range(10)
            ]
        )
    )


def _average(scores: Array, overlap: Array, there: Array) -> float:
    """Average precision of one class, by the rules of PASCAL VOC since 2010."""
    open_ = there.copy()
    order = np.argsort(-scores, axis=None, kind="stable")[: np.count_nonzero(scores)]
    right = np.zeros(len(order))
    for rank, (scene, detection) in enumerate(
        zip(*np.unravel_index(order, scores.shape), strict=True)
    ):
        found = overlap[scene, detection] * there[scene]
        best = int(found.argmax())
        if found[best] >= _OVERLAP and open_[scene, best]:
            open_[scene, best] = False
            right[rank] = 1
    recall = right.cumsum() / there.sum()
    precision = right.cumsum() / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * envelope).sum())
