"""Which layers are found, and that what replaces them computes the same at full rank."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgekit.compress.lowrank.cp import CpSite
from edgekit.compress.lowrank.layers import Layer, LayerSite, barred, find
from edgekit.compress.lowrank.spatial import SpatialSite
from edgekit.compress.lowrank.svd import SvdSite
from edgekit.compress.lowrank.tucker import TuckerSite
from edgekit.compress.lowrank.weighting import Weighting, input_root
from edgekit.errors import CompressError


def _layer(module: nn.Linear | nn.Conv2d, image: torch.Tensor) -> Layer:
    model = nn.Sequential(module).eval()
    return find(model, [image])[0]["0"]


def _weightings(layer: Layer) -> list[Weighting]:
    torch.manual_seed(1)
    outputs, inputs = layer.weight.shape[:2]
    vectors = torch.randn(inputs // 2, inputs, dtype=torch.float64)
    rows = torch.rand(outputs, dtype=torch.float64) + 0.1
    return [Weighting(), Weighting(rows, input_root(vectors.T @ vectors))]


def _low_rank_conv(rank: int, **options: object) -> nn.Conv2d:
    """A 3x3 convolution 12 -> 10 that is the sum of ``rank`` products of three vectors."""
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 10, 3, **options)
    parts = [torch.linalg.qr(torch.randn(size, rank))[0] for size in (10, 12, 9)]
    with torch.no_grad():
        conv.weight.copy_(torch.einsum("or,ir,sr->ois", *parts).reshape(10, 12, 3, 3))
    return conv.eval()


_OPTIONS = [
    {"padding": 1},
    {"stride": 2, "padding": 1, "bias": False},
    {"stride": (1, 2), "padding": (0, 2), "dilation": (2, 1)},
    {"padding": "same", "dilation": 2},
    {"padding": 1, "padding_mode": "reflect"},
]


@pytest.mark.parametrize("options", _OPTIONS)
@pytest.mark.parametrize(
    ("make", "ranks"), [(TuckerSite, (3, 3)), (CpSite, (3,)), (SpatialSite, (9,))]
)
def test_a_convolution_of_low_rank_is_reproduced(
    make: type[LayerSite], ranks: tuple[int, ...], options: dict[str, object]
) -> None:
    image = torch.randn(2, 12, 9, 11)
    conv = _low_rank_conv(3, **options)
    layer = _layer(conv, image)
    for weighting in _weightings(layer):
        site = make(layer, weighting)
        assert {one.ranks for one in site.candidates(3)} >= ({ranks} if len(ranks) == 1 else set())
        with torch.no_grad():
            torch.testing.assert_close(site.build(ranks)(image), conv(image), rtol=1e-4, atol=1e-4)


def test_tucker_leaves_out_a_side_that_is_not_reduced() -> None:
    site = TuckerSite(_layer(_low_rank_conv(3), torch.randn(1, 12, 8, 8)), Weighting())
    shapes = [[tuple(p.weight.shape) for p in site.build(r)] for r in ((10, 3), (3, 12), (3, 3))]
    assert shapes == [
        [(3, 12, 1, 1), (10, 3, 3, 3)],
        [(3, 12, 3, 3), (10, 3, 1, 1)],
        [(3, 12, 1, 1), (3, 3, 3, 3), (10, 3, 1, 1)],
    ]


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(8, 12), (3, 5, 8)),
        (nn.Linear(12, 8, bias=False), (4, 12)),
        (nn.Conv2d(8, 12, 1, stride=2), (2, 8, 7, 7)),
        (nn.Conv2d(8, 12, 1, padding=1), (2, 8, 4, 4)),
    ],
)
def test_matrix_layers_are_reproduced_at_full_rank(
    module: nn.Linear | nn.Conv2d, shape: tuple[int, ...]
) -> None:
    given = torch.randn(shape)
    layer = _layer(module, given)
    for weighting in _weightings(layer):
        made = SvdSite(layer, weighting).build((8,))
        with torch.no_grad():
            torch.testing.assert_close(made(given), module(given), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [SvdSite, TuckerSite, CpSite, SpatialSite])
def test_costs_of_candidates_are_those_of_the_layers_that_are_built(make: type[LayerSite]) -> None:
    kernel = 1 if make is SvdSite else 3
    torch.manual_seed(0)
    image = torch.randn(2, 16, 8, 8)
    conv = nn.Conv2d(16, 24, kernel, stride=2, padding=kernel // 2)
    site = make(_layer(conv, image), Weighting())
    offers = site.candidates(4)
    assert offers
    assert all(one.macs < site.macs for one in offers)
    for offer in offers:
        built = site.build(offer.ranks)
        layers, _ = find(nn.Sequential(built), [image])
        depthwise = [m for m in built if m.groups > 1]
        weights = [m.weight.numel() for m in built]
        macs = sum(one.output_positions * one.weight.numel() for one in layers.values())
        macs += sum(2 * 4 * 4 * m.weight.numel() for m in depthwise)
        assert offer.parameters == sum(weights)
        assert offer.macs == macs


@pytest.mark.parametrize("make", [SvdSite, TuckerSite, CpSite, SpatialSite])
def test_error_of_candidates_is_that_of_the_layer_and_falls_with_rank(
    make: type[LayerSite],
) -> None:
    kernel = 1 if make is SvdSite else 3
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, kernel, bias=False).requires_grad_(requires_grad=False)
    impulses = torch.zeros(16, 16, 5, 5)  # the output is the kernel itself, mirrored
    impulses[range(16), range(16), 2, 2] = 1.0
    site = make(_layer(conv, impulses), Weighting())
    wanted = conv(impulses)
    offers = [one for one in site.candidates(4) if one.ranks[0] == one.ranks[-1]]
    errors = [
        float((site.build(one.ranks)(impulses) - wanted).norm() / wanted.norm()) for one in offers
    ]
    assert errors == sorted(errors, reverse=True)
    tolerance = 0.05 if make is TuckerSite else 1e-4  # iteration improves what was promised
    for error, offer in zip(errors, offers, strict=True):
        assert offer.error * (1 - tolerance) <= error <= offer.error + 1e-5


def test_parts_keep_dtype_and_frozen_weights_and_take_no_random_numbers() -> None:
    linear = nn.Linear(8, 8).to(torch.bfloat16).requires_grad_(requires_grad=False)
    layer = _layer(linear, torch.randn(1, 8).to(torch.bfloat16))
    before = torch.get_rng_state()
    parts = list(SvdSite(layer, Weighting()).build((4,)).parameters())
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.dtype for p in parts} == {torch.bfloat16}
    assert not any(p.requires_grad for p in parts)


class _Odd(nn.Module):
    """Layers that look like others and must not be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Linear(8, 8)
        self.again = self.good
        self.read = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.tied, self.tie = nn.Linear(8, 8), nn.Linear(8, 8)
        self.tie.weight = self.tied.weight
        self.unused = nn.Linear(8, 8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.good(x)).to(self.read.weight.dtype)
        x = self.attention(self.read(x), x, x)[0]
        x = self.tie(self.tied(x))
        return x + self.depthwise(torch.ones(1, 8, 3, 3)).sum()


def test_only_layers_that_can_be_replaced_are_found() -> None:
    layers, refused = find(_Odd().eval(), [torch.randn(4, 8)])
    assert list(layers) == ["good"]
    assert refused == {
        "read": "the model reads attributes of the layer beside calling it",
        "tied": "another module has the same weight",
        "tie": "another module has the same weight",
        "depthwise": "a convolution of 8 groups is no dense product",
    }


def test_a_layer_under_two_names_is_replaced_under_both() -> None:
    model = _Odd().eval()
    layer = find(model, [torch.randn(4, 8)])[0]["good"]
    assert layer.names == ("good", "again")
    assert layer.output_positions == 8
    site = SvdSite(layer, Weighting())
    site.replace(model, site.candidates(2)[0])
    assert isinstance(model.good, nn.Sequential)
    assert model.again is model.good


def test_finding_leaves_the_model_as_it_was() -> None:
    model = _Odd().eval()
    before = [(name, type(module)) for name, module in model.named_modules()]
    find(model, [torch.randn(4, 8)])
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert not any(module._forward_hooks for module in model.modules())


def test_barred_takes_what_is_inside() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2)))
    assert barred(model, ["0"], "here") == {"0", "0.0"}
    assert barred(model, ["*.0"], "here") == {"0.0", "1.0"}
    assert barred(model, [], "here") == set()


def test_exclude_that_matches_nothing_names_the_nearest() -> None:
    model = nn.Sequential()
    model.encoder = nn.Linear(2, 2)
    with pytest.raises(CompressError, match=r"'encodr' matches no module, did you mean 'encoder'"):
        barred(model, ["encodr"], "here")
