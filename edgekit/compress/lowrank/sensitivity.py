"""What a factorized site costs at the model's output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.lowrank.measure import with_sites
from edgekit.compress.modules import calibration_tensors, named_outputs
from edgekit.errors import CalibrationError
from edgekit.workload import Workload

__all__ = ["OutputError"]

#: Batches of calibration data that outputs are compared on.
_BATCHES = 8


class OutputError:
    """Call it with a site and a candidate: how far that alone moves the model's outputs.

    That is the squared error of all floating-point outputs in units of their mean square; of
    embeddings of length 1 it is twice 1 minus their cosine.

    Args:
        workload: its calibration data is run, or its example where there is none.
        model: in eval mode, with the sites as they were.

    Raises:
        CalibrationError: there is no data, or no output is a floating-point tensor.
    """

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        self._workload = workload
        self._model = model
        self._batches = list(calibration_tensors(workload, _BATCHES))
        self._wanted = self._outputs(model)
        if not self._wanted:
            raise CalibrationError(
                "gives no floating-point output to compare",
                where=f"workload {workload.name!r}, calibration",
                fix="Give at least one batch, or choose the rank by ratio, energy or loss",
            )
        self._size = max(sum(float(wanted.square().sum()) for wanted in self._wanted), 1e-30)

    def __call__(self, site: Site, candidate: Candidate) -> float:
        made = self._outputs(with_sites(self._model, [site], {site.name: candidate}))
        pairs = zip(made, self._wanted, strict=True)
        return sum(float((got - wanted).square().sum()) for got, wanted in pairs) / self._size

    @torch.no_grad()
    def _outputs(self, model: nn.Module) -> Sequence[torch.Tensor]:
        names = self._workload.output_names
        return [
            tensor.double()
            for batch in self._batches
            for tensor in named_outputs(model(*batch.values()), names).values()
            if tensor.is_floating_point()
        ]
