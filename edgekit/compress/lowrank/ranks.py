"""Which rank each site gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from edgekit.compress.lowrank.base import Candidate, Site

__all__ = ["RankRule", "choose"]


class RankRule(BaseModel):
    """How ranks are chosen: exactly one of these keys.

    Attributes:
        energy: the smallest rank of each site that keeps this share of its squared norm.
        ratio: the largest rank of each site whose factors have at most this share of its weights.
        loss: the smallest rank of each site whose relative output error is at most this.
        total_loss: the relative output errors of all sites together add up to at most this, and
            it is spent greedily where the error per saved MAC is least.
        output_loss: the same, with each site's error measured at the model's outputs on calibration
            data: squared, relative, with that site alone factorized. Layers that matter more for
            the result keep more; it takes a few forward passes for each rank of each site.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    energy: float | None = Field(default=None, gt=0.0, le=1.0)
    ratio: float | None = Field(default=None, gt=0.0, lt=1.0)
    loss: float | None = Field(default=None, gt=0.0, lt=1.0)
    total_loss: float | None = Field(default=None, gt=0.0)
    output_loss: float | None = Field(default=None, gt=0.0)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    def __str__(self) -> str:
        ((name, value),) = self.model_dump(exclude_none=True).items()
        return f"{name} {value:g}"


def choose(
    sites: Sequence[Site],
    rule: RankRule,
    multiple: int,
    output_error: Callable[[Site, Candidate], float] | None = None,
) -> dict[str, tuple[Candidate | None, str]]:
    """The candidate of every site by name; None and the reason where it is left alone.

    Args:
        sites: what can be factorized.
        rule: how ranks are chosen.
        multiple: ranks are multiples of this.
        output_error: what ``output_loss`` judges by.
    """
    candidates = {site.name: site.candidates(multiple) for site in sites}
    if rule.output_loss is not None:
        assert output_error is not None
        candidates = {
            site.name: [
                replace(one, error=output_error(site, one)) for one in candidates[site.name]
            ]
            for site in sites
        }
    offers = {name: _by_cost(found) for name, found in candidates.items()}
    budget = rule.output_loss or rule.total_loss
    if budget is not None:
        chosen = _spend(sites, offers, budget)
    else:
        chosen = {site.name: _pick(site, offers[site.name], rule) for site in sites}
    return {
        name: (candidate, _reason(candidate, offers[name], rule, multiple))
        for name, candidate in chosen.items()
    }


def _by_cost(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Cheapest first, without those that cost more than another one and are no better."""
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.macs, one.error, one.ranks)):
        if not front or candidate.error < front[-1].error:
            front.append(candidate)
    return front


def _pick(site: Site, offers: Sequence[Candidate], rule: RankRule) -> Candidate | None:
    if rule.ratio is not None:
        limit = rule.ratio * site.parameters
        return next((one for one in reversed(offers) if one.parameters <= limit), None)
    if rule.energy is not None:
        least = rule.energy - 1e-12  # 1 - 1e-17 is 1 in floating point, and so is its opposite
        return next((one for one in offers if one.energy >= least), None)
    assert rule.loss is not None
    limit = rule.loss
    return next((one for one in offers if one.error <= limit), None)


def _spend(
    sites: Sequence[Site], offers: Mapping[str, Sequence[Candidate]], budget: float
) -> dict[str, Candidate | None]:
    """Take the step with the least error per saved MAC as long as the budget lasts."""
    chosen: dict[str, Candidate | None] = {site.name: None for site in sites}
    spent = 0.0
    while True:
        steps = []
        for index, site in enumerate(sites):
            now = chosen[site.name]
            macs, error = (site.macs, 0.0) if now is None else (now.macs, now.error)
            steps += [
                ((one.error - error) / (macs - one.macs), index, one)
                for one in offers[site.name]
                if one.macs < macs and spent - error + one.error <= budget
            ]
        if not steps:
            return chosen
        _, index, best = min(steps, key=lambda step: (step[0], step[1], step[2].macs))
        name = sites[index].name
        previous = chosen[name]
        spent += best.error - (0.0 if previous is None else previous.error)
        chosen[name] = best


def _reason(
    candidate: Candidate | None, offers: Sequence[Candidate], rule: RankRule, multiple: int
) -> str:
    if candidate is not None:
        return f"relative error {candidate.error:.3g}, MACs {candidate.macs:,}"
    if not offers:
        return f"no rank that is a multiple of {multiple} has fewer MACs"
    return f"no rank that has fewer MACs and is a multiple of {multiple} fits {rule}"
