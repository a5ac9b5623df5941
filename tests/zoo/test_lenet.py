from __future__ import annotations

import torch
from torch import nn

from edgekit import zoo
from edgekit.zoo import lenet


def test_a_map_of_c3_sees_the_maps_of_s2_that_the_table_names_and_no_other() -> None:
    model = zoo.load("lenet5-mnist").model
    assert isinstance(model, nn.Sequential)
    c3 = model[4]
    maps = torch.rand(1, 6, 14, 14)
    before = c3(maps)
    for changed in range(6):
        other = maps.clone()
        other[:, changed] += 1
        moved = (c3(other) - before).abs().amax(dim=(0, 2, 3)) > 1e-3
        assert moved.tolist() == [changed in seen for seen in lenet.SEEN]


def test_the_table_has_as_many_connections_as_the_paper() -> None:
    assert sum(map(len, lenet.SEEN)) == 60  # 1516 parameters with 25 weights each and 16 biases
