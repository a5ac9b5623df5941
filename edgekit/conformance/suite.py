"""Check every clause against one server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edgekit.conformance.clause import Clause, NotApplicable, Outcome, Unmet
from edgekit.conformance.clauses import CLAUSES
from edgekit.conformance.target import Target

__all__ = ["as_json", "check", "conforms", "run"]


def run(target: Target, clauses: Iterable[Clause] = CLAUSES) -> list[Outcome]:
    """The outcome of each clause, in their order."""
    return [check(clause, target) for clause in clauses]


def check(clause: Clause, target: Target) -> Outcome:
    """The outcome of one clause."""
    try:
        if clause.extension is not None:
            target.need(clause.extension)
        clause.check(target)
    except NotApplicable as reason:
        return Outcome(clause, "skipped", reason=str(reason))
    except Unmet as unmet:
        return Outcome(clause, "fail", expected=unmet.expected, got=unmet.got)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # Checks read answers as the protocol has them; any server may have them otherwise.
        return Outcome(clause, "fail", expected="an answer of the protocol's form", got=repr(error))
    return Outcome(clause, "pass")


def conforms(outcomes: Iterable[Outcome]) -> bool:
    """Whether no clause that binds this server failed."""
    return not any(outcome.status == "fail" and outcome.binding for outcome in outcomes)


def as_json(target: Target, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """The result for machines."""
    listed = list(outcomes)
    return {
        "url": target.url,
        "model": target.model,
        "grpc": target.grpc,
        "extensions": list(target.extensions),
        "conforms": conforms(listed),
        "clauses": [
            {
                "id": outcome.clause.id,
                "area": outcome.clause.area,
                "level": outcome.clause.level,
                "requires": outcome.clause.requires,
                "status": outcome.status,
                "expected": outcome.expected,
                "got": outcome.got,
                "reason": outcome.reason,
            }
            for outcome in listed
        ],
    }
