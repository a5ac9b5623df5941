"""What ``edgekit profile`` makes of what it measured: the best setting, and gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.manifest import Defaults
    from edgekit.profile.choose import Aim, Choice
    from edgekit.profile.figures import Measured
    from edgekit.profile.goals import Goal
    from edgekit.profile.records import Profile
    from edgekit.profile.sweep import Sweep

__all__ = ["Asked", "asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run, read before anything is measured."""

    bundle: Bundle
    sweep: Sweep | None
    aim: Aim | None
    write: bool
    gates: list[Goal]
    baseline: Profile | None

    def tell(self, profile: Profile, *, show: bool) -> bool:
        """Choose, write and judge; whether every gate passed.

        Args:
            profile: what was measured.
            show: print the points, too.

        Raises:
            GateError: no setting holds what the goal asks.
        """
        from edgekit.cli._console import stdout
        from edgekit.profile.choose import Aim, choose
        from edgekit.profile.figures import measured
        from edgekit.report.points import print_choice, print_points

        points = measured(profile)
        if show and self.sweep is not None:
            print_points(points, profile.skipped, self.aim or Aim(50.0), stdout())
        judged: list[Measured] | None = None
        if self.aim is not None:
            best = choose(points, self.aim)
            judged = [best.point]
            if show:
                print_choice(best, self.aim, stdout())
            if self.write:
                self._write(points, self.aim, best)
        return self._judge(profile, judged)

    def _judge(self, profile: Profile, points: list[Measured] | None) -> bool:
        from edgekit.profile.gate import judge

        verdicts = judge(self.gates, self.bundle, profile, baseline=self.baseline, points=points)
        for verdict in verdicts:
            typer.echo(f"edgekit: {verdict}", err=True)
        return all(verdict.passed for verdict in verdicts)

    def _write(self, points: Sequence[Measured], aim: Aim, best: Choice) -> None:
        from edgekit.defaults import write_defaults
        from edgekit.errors import GateError
        from edgekit.profile.choose import choose

        selected = self.bundle.manifest.selected
        found = {}
        for runtime in dict.fromkeys(point.runtime for point in points):
            own = [p for p in points if p.runtime == runtime and p.artifact in selected]
            try:
                if own:
                    found[runtime] = choose(own, aim).point
            except GateError as error:
                typer.echo(f"{runtime}: {error}", err=True)
        if best.point.artifact not in selected:
            what = "is not what the bundle selected, so its setting is not written"
            typer.echo(f"{best.point.artifact} {what}", err=True)
        if not found:
            return
        unsigned = write_defaults(
            self.bundle, {name: self._defaults(point, aim) for name, point in found.items()}
        )
        for name, point in found.items():
            typer.echo(f"Default of {name}: {point.name.partition(' ')[2]}", err=True)
        if unsigned:
            told = "The signature was of the bundle without them: sign it again with edgekit sign"
            typer.echo(told, err=True)

    def _defaults(self, point: Measured, aim: Aim) -> Defaults:
        """What was chosen. What had one value only is not: a server may batch as it likes."""
        from edgekit.machine import this_machine
        from edgekit.manifest import Defaults
        from edgekit.timestamp import timestamp

        settings, sweep = point.settings, self.sweep
        return Defaults(
            threads=settings.threads,
            streams=settings.streams if sweep and sweep.streams else None,
            batch=settings.batch if sweep and sweep.batch else None,
            device=settings.device,
            goal=str(aim),
            created=timestamp(),
            cpu=this_machine().cpu,
            cores=this_machine().cores,
        )


def asked(
    bundle: Bundle,
    sweep: Sweep | None,
    *,
    goal: str | None,
    write: bool,
    gates: Sequence[str],
    baseline: Path | None,
) -> Asked:
    """Read the options.

    Raises:
        SpecError: a goal or gate that cannot be judged.
        ProfileError: the baseline cannot be read.
    """
    from edgekit.profile.choose import parse_aim
    from edgekit.profile.gate import parse_gates
    from edgekit.profile.store import load

    if write and goal is None:
        raise typer.BadParameter("--write needs the --goal that the setting shall be best for")
    old = load(baseline) if baseline is not None else None
    return Asked(
        bundle=bundle,
        sweep=sweep,
        aim=parse_aim(goal) if goal is not None else None,
        write=write,
        gates=parse_gates(gates, bundle, old),
        baseline=old,
    )
