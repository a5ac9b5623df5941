"""What to write instead of operators that ONNX has no counterpart for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["REWRITES"]

#: By name of the operator as PyTorch's graph has it. Each one computes the same, in operators that
#: can be exported; a test holds both. ``n`` is the size of the axis.
REWRITES: Mapping[str, str] = MappingProxyType(
    {
        "aten.kthvalue": "x.sort(dim).values.select(dim, k - 1)",
        "aten.median": "x.sort(dim).values.select(dim, (x.shape[dim] - 1) // 2)",
        "aten.cumprod": "torch.where(torch.ones(n, n).tril().bool(), x[..., None, :], 1.0).prod(-1)"
        " for the last axis",
        "aten.cummax": "torch.where(torch.ones(n, n).tril().bool(), x[..., None, :], -torch.inf)"
        ".amax(-1) for the last axis",
        "aten.cummin": "torch.where(torch.ones(n, n).tril().bool(), x[..., None, :], torch.inf)"
        ".amin(-1) for the last axis",
        "aten.searchsorted": "(x[..., None] > sequence).sum(-1) for one sorted sequence",
        "aten.isin": "(x[..., None] == elements).any(-1) for elements of one axis",
        "aten.cdist": "((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1).sqrt()",
        "aten.pdist": "((x[i] - x[j]) ** 2).sum(-1).sqrt() with i, j = torch.triu_indices(n, n, 1)",
        "aten.hypot": "(x * x + y * y).sqrt()",
        "aten.put": "x.flatten().scatter(0, index, source).reshape(x.shape)",
        "aten.rrelu": "torch.nn.functional.leaky_relu(x, (lower + upper) / 2), its inference form",
    }
)
