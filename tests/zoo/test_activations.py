from __future__ import annotations

import torch

from edgekit.zoo import activations


def test_a_piecewise_linear_unit_is_the_sum_of_its_hinges() -> None:
    unit = activations._PiecewiseLinear(1)
    with torch.no_grad():
        unit.slopes.copy_(torch.tensor([0.5, -1.0]).view(2, 1, 1, 1))
        unit.bends.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        got = unit(torch.tensor([-3.0, -0.5, 0.5, 2.0]).view(1, 1, 1, 4)).flatten()
    torch.testing.assert_close(got, torch.tensor([0.0, 0.75, 0.75, 2.0]))


def test_every_channel_learnt_a_function_of_its_own() -> None:
    for entry, kind in zip(
        activations.ENTRIES, (torch.nn.PReLU, activations._PiecewiseLinear), strict=True
    ):
        model = entry.workload().model
        units = [one for one in model.modules() if isinstance(one, kind)]
        assert len(units) == 5
        for unit in units:
            assert all(learnt.std() > 0.01 for learnt in unit.parameters())
