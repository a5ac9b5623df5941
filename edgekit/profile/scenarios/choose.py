"""From options to a scenario, with one clear line for those that do not go together."""

from __future__ import annotations

from typing import Final

from edgekit.errors import SpecError, did_you_mean
from edgekit.profile.goals import parse_goal
from edgekit.profile.scenarios.base import MLPERF, Rules, Scenario
from edgekit.profile.scenarios.multi_stream import MultiStream
from edgekit.profile.scenarios.offline import Offline
from edgekit.profile.scenarios.server import Server, require_target
from edgekit.profile.scenarios.single_stream import SingleStream

__all__ = ["SCENARIOS", "choose"]

#: Names of all scenarios.
SCENARIOS: Final = tuple(one.name for one in (SingleStream, MultiStream, Server, Offline))


def choose(
    name: str,
    *,
    target: str | None = None,
    rate: float | None = None,
    seconds: float | None = None,
    queries: int | None = None,
    seed: int | None = None,
    mlperf: bool = False,
) -> Scenario:
    """The scenario of that name.

    Args:
        name: one of :data:`SCENARIOS`.
        target: of the server scenario, such as ``p99<10ms``.
        rate: of the server scenario, where none is to be searched for.
        seconds: least duration; None for 10.
        queries: at least; in the offline scenario samples.
        seed: of the server scenario's arrivals; None for 0.
        mlperf: MLPerf's own rules: 600 s.

    Raises:
        SpecError: there is no such scenario, or an option is wrong or is another scenario's.
    """
    if name not in SCENARIOS:
        raise SpecError(
            f"there is no scenario {name!r}{did_you_mean(name, SCENARIOS)}",
            where="--scenario",
            fix=f"Use one of {', '.join(SCENARIOS)}",
        )
    rules = _rules(seconds, queries, mlperf=mlperf)
    if name == Server.name:
        return _server(target, rate, seed, rules)
    for option, value in (("--target", target), ("--rate", rate), ("--seed", seed)):
        if value is not None:
            raise SpecError(
                f"is for the server scenario, not for {name}",
                where=option,
                fix="Add --scenario server, or leave it out",
            )
    if name == Offline.name:
        return Offline(rules)
    return MultiStream(rules) if name == MultiStream.name else SingleStream(rules)


def _rules(seconds: float | None, queries: int | None, *, mlperf: bool) -> Rules:
    if mlperf:
        if seconds is not None and seconds != MLPERF.seconds:
            raise SpecError(
                f"sets the duration to {MLPERF.seconds:g} s itself",
                where="--mlperf",
                fix="Leave --seconds out",
            )
        return Rules(MLPERF.seconds, queries or 0, endless=True)
    # Who asks for a number of queries waits for it.
    return Rules(seconds or Rules().seconds, queries or 0, endless=queries is not None)


def _server(target: str | None, rate: float | None, seed: int | None, rules: Rules) -> Server:
    if target is None:
        raise SpecError(
            "needs a latency that it must hold",
            where="--scenario server",
            fix="Add --target 'p99<10ms', say",
        )
    if rate is not None and not 0 < rate < float("inf"):
        raise SpecError(
            f"{rate:g} is no rate", where="--rate", fix="Give queries a second, more than 0"
        )
    goal = require_target(parse_goal(target, option="--target"))
    return Server(goal, rules, rate, seed or 0)
