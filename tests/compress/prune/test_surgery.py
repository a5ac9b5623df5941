from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.compress.prune.find import find_groups
from edgekit.compress.prune.surgery import keep
from edgekit.errors import CompressError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.left = nn.Conv2d(8, 12, 3, padding=1)
        self.deep = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.grouped = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(16, 6, 2, 2)
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.grouped(torch.relu(self.deep(self.left(x)))))
        y = torch.relu(self.up(torch.cat([x, x + y], 1)))
        return self.head(nn.functional.max_pool2d(y, 2).flatten(1))


class Messages(nn.Module):
    """What graph networks, and boards of several features, are summed up and written with."""

    def __init__(self) -> None:
        super().__init__()
        self.make = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        made = self.make(x)
        nodes, width = made.shape
        nothing, sent, to = made.new_zeros(nodes, width), made[edges[0]], edges[1]
        summed = nothing.index_add(0, to, sent)
        summed = summed + nothing.scatter_add(0, to[:, None].expand(-1, width), sent)
        columns, board = made.new_zeros(width, nodes), made.new_zeros(2, width, nodes)
        columns[:, to] = sent.T
        board[to % 2, :, to] = sent
        summed = summed + columns.T + board.sum(0).T
        return self.head(summed.relu())


IMAGE = {"x": torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))}


def _block() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Block().eval()


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _messages() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Messages().eval()


GRAPH = {"x": torch.rand(5, 6), "edges": torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]])}


@pytest.mark.parametrize(
    ("make", "inputs", "least"), [(_block, IMAGE, 3), (_messages, GRAPH, 1)], ids=["conv", "graph"]
)
def test_units_whose_makers_are_zero_can_go_without_changing_the_output(
    make: Callable[[], nn.Module], inputs: dict[str, torch.Tensor], least: int
) -> None:
    model = make()
    groups = find_groups(model, inputs)
    with torch.no_grad():
        for group in groups:
            for member in (one for one in group.members if one.role != "in"):
                if "running" not in member.parameter:
                    index = torch.from_numpy(member.index[::2].ravel())
                    model.get_parameter(member.parameter).index_fill_(member.axis, index, 0.0)
        before = model(*inputs.values())
        keep(model, groups, {one.name: range(1, one.size, 2) for one in groups})
        after = model(*inputs.values())
    assert len(groups) >= least
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_channels_of_every_grouped_convolution_group_go_together() -> None:
    groups = find_groups(_block(), IMAGE)
    group = next(one for one in groups if one.name == "left")
    assert group.size == 6
    grouped = next(one for one in group.members if one.parameter == "left.weight")
    np.testing.assert_array_equal(grouped.index, [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]])


def test_attributes_say_what_is_left() -> None:
    model = _block()
    groups = find_groups(model, IMAGE)
    keep(model, groups, {"left": [0, 1, 5]})
    deep, grouped = model.get_submodule("deep"), model.get_submodule("grouped")
    assert (deep.groups, deep.in_channels, deep.out_channels) == (6, 6, 6)
    assert (grouped.groups, grouped.in_channels, grouped.out_channels) == (2, 6, 8)


def test_outputs_are_fixed_with_the_reason() -> None:
    groups = find_groups(_block(), IMAGE)
    assert groups.fixed == {"head": "output 0 of the model depends on it"}


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"nowhere": [0]}, "no group 'nowhere'"),
        ({"left": []}, "none"),
        ({"left": [1, 1]}, "twice"),
        ({"left": [6]}, "no unit 6"),
        ({"left": [-1]}, "no unit -1"),
    ],
)
def test_a_bad_choice_is_refused_and_changes_nothing(kept: dict[str, list[int]], says: str) -> None:
    model = _block()
    groups = find_groups(model, IMAGE)
    before = _state(model)
    with pytest.raises(CompressError, match=says):
        keep(model, groups, {"stem": [0], **kept} if "left" in kept else kept)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }


def test_groups_of_an_older_state_are_refused_and_change_nothing() -> None:
    model = _block()
    groups = find_groups(model, IMAGE)
    keep(model, groups, {"left": [0, 1]})
    before = _state(model)
    with pytest.raises(CompressError, match="not the one that the groups were found in"):
        keep(model, groups, {"left": [0, 1], "stem": [0]})
    torch.testing.assert_close(dict(model.state_dict()), before)
    model(IMAGE["x"])


def test_find_groups_leaves_the_model_as_it_was() -> None:
    model = _block()
    before = _state(model)
    find_groups(model, IMAGE)
    torch.testing.assert_close(dict(model.state_dict()), before)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight
        self.middle.weight.requires_grad_(requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.table(x)
        return self.head(x + self.middle(x))


def test_tied_weights_stay_tied_and_frozen_ones_frozen() -> None:
    model, inputs = Tied(), {"x": torch.tensor([[1, 2]])}
    groups = find_groups(model, inputs)
    keep(model, groups, {"table": [0, 3, 4]})
    assert model.head.weight is model.table.weight
    assert model.head.in_features == 3
    assert not model.middle.weight.requires_grad
    assert model(inputs["x"]).shape == (1, 2, 11)


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.second = nn.Linear(6, 2)
        self.third = nn.Linear(6, 3)
        self.last = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.second(y.reshape(-1, 6)) + self.last(torch.relu(self.third(y)))


def test_code_with_a_constant_fixes_only_what_it_constrains() -> None:
    groups = find_groups(Fixed(), {"x": torch.rand(2, 4)})
    assert [group.name for group in groups] == ["third"]
    assert "cannot follow" in groups.fixed["first"]


def test_an_operation_that_is_not_understood_fixes_what_it_touches() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 6)
            self.second = nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(torch.fft.fft(self.first(x)).real)

    with pytest.raises(CompressError, match="not understood"):
        find_groups(Odd(), {"x": torch.rand(2, 4)})


def test_a_model_that_cannot_be_traced_is_named() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CompressError, match="Branches"):
        find_groups(Branches(), {"x": torch.rand(2)})
