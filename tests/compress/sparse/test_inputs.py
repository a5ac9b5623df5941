"""The second moments of layer inputs, against the layers themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.sparse import inputs
from edgekit.compress.sparse.inputs import collect, input_rows
from edgekit.compress.sparse.layers import to_matrix
from edgekit.errors import CalibrationError
from edgekit.spec import Feeds

LAYERS = {
    "linear": (nn.Linear(6, 3, bias=False), (2, 5, 6)),
    "conv1d": (nn.Conv1d(4, 6, 3, 2, padding=1, dilation=2, bias=False), (2, 4, 11)),
    "conv1d same": (nn.Conv1d(4, 6, 4, padding="same", bias=False), (2, 4, 11)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 1), dilation=(2, 1), bias=False), (2, 4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, padding="valid", bias=False), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, padding="same", bias=False), (2, 4, 7, 7)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect", bias=False), (2, 4, 7, 7)),
    "circular": (nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular", bias=False), (2, 4, 7)),
    "no batch": (nn.Conv2d(4, 6, 3, bias=False), (4, 7, 7)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_matrix_is_what_the_layer_computes(name: str) -> None:
    layer, shape = LAYERS[name]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        groups = input_rows(layer, values) @ to_matrix(layer, layer.weight).mT
        wanted = layer(values)
    if not isinstance(layer, nn.Linear):
        wanted = wanted.unsqueeze(0) if name == "no batch" else wanted
        wanted = wanted.flatten(2).mT
    got = groups.permute(1, 0, 2).flatten(1)
    torch.testing.assert_close(got, wanted.reshape(got.shape), rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """A layer that is called twice, and one that never is."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3, 3)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(self.used(x))


def feeds(count: int = 3) -> Iterator[Feeds]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield {"x": generator.standard_normal((4, 3)).astype(np.float32)}


def test_moments_are_summed_over_calls_and_batches() -> None:
    model = Twice()
    layers = {"used": model.used, "idle": model.idle}
    found = collect(model, layers, feeds(), ["x"], samples=100, moments=True)
    assert list(found) == ["used"]
    x = torch.cat([torch.from_numpy(feed["x"]) for feed in feeds()])
    rows = torch.cat([x, model.used(x).detach()])
    assert found["used"].rows == len(rows)
    torch.testing.assert_close(found["used"].moment[0], rows.T @ rows)
    squares = collect(model, layers, feeds(), ["x"], samples=100, moments=False)["used"]
    assert squares.moment is None
    torch.testing.assert_close(squares.squares[0], (rows**2).sum(0))


def test_it_stops_after_the_samples() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    found = collect(model, {"0": model[0]}, feeds(), ["x"], samples=5, moments=False)
    assert found["0"].rows == 8


def test_images_unfolded_in_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3))
    data = [{"x": np.random.default_rng(0).standard_normal((5, 2, 6, 6)).astype(np.float32)}]
    whole = collect(model, {"0": model[0]}, data, ["x"], samples=9, moments=True)["0"]
    monkeypatch.setattr(inputs, "_VALUES", 2 * 6 * 6 * 9 * 2)
    parts = collect(model, {"0": model[0]}, data, ["x"], samples=9, moments=True)["0"]
    assert parts.rows == whole.rows
    torch.testing.assert_close(parts.moment, whole.moment)


def test_nan_in_the_data_names_layer_and_batch() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    data = [*feeds(1), {"x": np.full((1, 3), np.nan, np.float32)}]
    with pytest.raises(CalibrationError, match=r"batch 1: gives layer '0' an input with NaN"):
        collect(model, {"0": model[0]}, data, ["x"], samples=9, moments=False)


def test_no_data_is_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(CalibrationError, match="empty"):
        collect(model, {"0": model[0]}, [], ["x"], samples=9, moments=False)
