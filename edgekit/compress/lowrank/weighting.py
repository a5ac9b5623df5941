"""What an error of a weight counts: by the inputs that it meets, by the loss that it moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Weighting", "input_root"]

#: Added to the second moment, relative to its mean eigenvalue: directions that calibration hardly
#: showed count a little, too. On held-out sentences 0.01 is better than less (zoo:minilm).
_RIDGE = 0.01


@dataclass(frozen=True, slots=True)
class Weighting:
    """The norm ``|diag(rows) E root|`` of an error E of a weight.

    Attributes:
        rows: float64, shape ``(outputs,)``, above 0: the weight of each output. None: all alike.
        root: float64, shape ``(inputs, inputs)``, lower triangular and invertible: ``root root^T``
            is the second moment of the inputs. None: white.
    """

    rows: torch.Tensor | None = None
    root: torch.Tensor | None = None

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """``diag(rows) weight root`` in float64, for a weight ``(outputs, inputs, ...)``."""
        weighted = self.scale_rows(weight.double())
        if self.root is not None:
            weighted = torch.einsum("oi...,ij->oj...", weighted, self.root)
        return weighted

    def scale_rows(self, weight: torch.Tensor) -> torch.Tensor:
        """``diag(rows) weight``, for ``(outputs, ...)``."""
        return weight if self.rows is None else weight * self._like(weight)

    def unscale_rows(self, left: torch.Tensor) -> torch.Tensor:
        """``diag(rows)^-1 left``, for a left factor ``(outputs, ...)``."""
        return left if self.rows is None else left / self._like(left)

    def _like(self, weight: torch.Tensor) -> torch.Tensor:
        assert self.rows is not None
        return self.rows.reshape(-1, *[1] * (weight.dim() - 1))

    def unroot(self, right: torch.Tensor) -> torch.Tensor:
        """``right root^-1``, for a right factor ``(rank, inputs)``."""
        if self.root is None:
            return right
        solved: torch.Tensor = torch.linalg.solve_triangular(
            self.root, right, upper=False, left=False
        )
        return solved


def input_root(moment: torch.Tensor) -> torch.Tensor:
    """The Cholesky factor of a second moment, which may be singular.

    Args:
        moment: shape ``(n, n)``, symmetric and positive semidefinite.

    Returns:
        Lower triangular and invertible, float64.
    """
    moment = moment.double()
    ridge = _RIDGE * float(moment.diagonal().mean())
    eye = torch.eye(len(moment), dtype=torch.float64)
    # inputs that are always 0 say nothing: white then
    factor: torch.Tensor = torch.linalg.cholesky(moment + ridge * eye) if ridge > 0 else eye
    return factor
