"""Which rank each rule gives, on sites whose errors and costs are known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import ValidationError
from torch import nn

from edgekit.compress.lowrank.base import Candidate, Site
from edgekit.compress.lowrank.ranks import RankRule, choose


class _Known(Site):
    """Errors at ranks 16, 32, 48 of a site where a rank costs 1 MAC and 1 parameter."""

    def __init__(self, name: str, errors: Sequence[float], macs: int = 64) -> None:
        self.name, self.kind, self.before = name, "known", "known"
        self.macs = self.parameters = macs
        self._errors = errors

    def candidates(self, multiple: int) -> list[Candidate]:
        return [
            Candidate((rank,), error, rank, rank)
            for rank, error in zip((16, 32, 48), self._errors, strict=False)
            if rank % multiple == 0
        ]

    def replace(self, model: nn.Module, candidate: Candidate) -> None:
        raise AssertionError(f"{candidate} of {self.name} is not to be put into {model}")


def _ranks(sites: Sequence[Site], multiple: int = 16, **rule: float) -> list[int | None]:
    chosen = choose(sites, RankRule(**rule), multiple)
    return [one.ranks[0] if one else None for one, _ in chosen.values()]


_SITES = [_Known("easy", (0.1, 0.05, 0.01)), _Known("hard", (0.8, 0.5, 0.3))]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"energy": 0.99}, [16, None]),
        ({"energy": 0.75}, [16, 32]),
        ({"energy": 0.9}, [16, 48]),
        ({"ratio": 0.5}, [32, 32]),
        ({"ratio": 0.76}, [48, 48]),
        ({"ratio": 0.1}, [None, None]),
        ({"loss": 0.05}, [32, None]),
        ({"loss": 0.5}, [16, 32]),
        ({"total_loss": 0.1}, [16, None]),
        ({"total_loss": 0.4}, [16, 48]),
        ({"total_loss": 0.95}, [16, 16]),
        ({"total_loss": 0.005}, [None, None]),
    ],
)
def test_rule_chooses(rule: dict[str, float], expected: list[int | None]) -> None:
    assert _ranks(_SITES, **rule) == expected


def test_ranks_are_multiples() -> None:
    assert _ranks(_SITES, multiple=32, ratio=0.76) == [32, 32]


def test_total_loss_is_never_exceeded() -> None:
    for budget in (0.01, 0.2, 0.5, 0.7, 1.0):
        chosen = choose(_SITES, RankRule(total_loss=budget), 16)
        assert sum(one.error for one, _ in chosen.values() if one) <= budget


def test_output_loss_spends_the_errors_that_were_measured() -> None:
    """Here what is easy by itself matters most for the result."""
    measured = {"easy": 1.0, "hard": 0.01}

    def output_error(site: Site, candidate: Candidate) -> float:
        return measured[site.name] * candidate.error

    chosen = choose(_SITES, RankRule(output_loss=0.02), 16, output_error)
    found = {name: one for name, (one, _) in chosen.items() if one}
    assert {name: one.ranks for name, one in found.items()} == {"easy": (48,), "hard": (16,)}
    assert sum(one.error for one in found.values()) <= 0.02


def test_a_candidate_that_costs_more_and_is_worse_is_never_chosen() -> None:
    assert _ranks([_Known("odd", (0.1, 0.4, 0.05))], ratio=0.5) == [16]


def test_reason_says_why_a_site_is_left_alone() -> None:
    chosen = choose([*_SITES, _Known("tiny", ())], RankRule(energy=0.99), 16)
    assert chosen["hard"][1] == (
        "no rank that has fewer MACs and is a multiple of 16 fits energy 0.99"
    )
    assert chosen["tiny"][1] == "no rank that is a multiple of 16 has fewer MACs"
    assert chosen["easy"][1] == "relative error 0.1, MACs 16"


@pytest.mark.parametrize("keys", [{}, {"energy": None}, {"energy": 0.9, "loss": 0.1}])
def test_a_rule_is_exactly_one_key(keys: dict[str, float | None]) -> None:
    with pytest.raises(ValidationError, match="exactly one of energy, ratio, loss"):
        RankRule(**keys)


@pytest.mark.parametrize(
    "keys", [{"energy": 0.0}, {"energy": 1.1}, {"ratio": 1.0}, {"loss": -0.1}, {"rank": 3}]
)
def test_a_rule_has_a_sensible_value(keys: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RankRule(**keys)
