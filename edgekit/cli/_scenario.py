"""``edgekit profile`` with a scenario, or of a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgekit.cli._forward import refuse_given

if TYPE_CHECKING:
    from edgekit.bundle import Bundle
    from edgekit.profile.journal import Journal
    from edgekit.profile.records import Profile, Settings
    from edgekit.profile.scenarios.base import Scenario

__all__ = ["ScenarioOptions", "is_url", "wants_load"]

#: Requests under way at a time in the offline scenario of a server.
_UNDER_WAY = 32


#: Options that say nothing to a scenario or a server.
_NOT_UNDER_LOAD = frozenset({
    "artifact", "baseline", "costs", "gate", "goal", "layers", "limit", "remote", "remote_python",
    "remote_wheels", "sweep", "write",
})  # fmt: skip

#: Options that say nothing without.
_UNDER_LOAD = frozenset({"mlperf", "queries", "rate", "seed", "target"})

#: Options of a server's client, and those of who starts the server.
_TO_THE_SERVER = frozenset({"ca", "data", "token_file"})
_OF_THE_SERVER = frozenset({"cores", "device", "runtime", "threads"})


def is_url(source: str) -> bool:
    """Whether a server is meant, and not a bundle."""
    return "://" in source


def wants_load(context: typer.Context) -> bool:
    """Whether a scenario is to run.

    Raises:
        SpecError: an option was given that nothing is to be done with.
    """
    source = context.params["source"]
    if is_url(source):
        refuse_given(context, _OF_THE_SERVER, "is the server's own business", "See edgekit serve")
        refuse_given(context, {"resume"}, "is for a bundle, of a server nothing is kept meanwhile")
    else:
        refuse_given(context, _TO_THE_SERVER, "is for a server", f"Give a URL instead of {source}")
    wanted = is_url(source) or context.params["scenario"] is not None
    if wanted:
        refuse_given(context, _NOT_UNDER_LOAD, "is not for a scenario or a server")
    else:
        refuse_given(context, _UNDER_LOAD, "is for a scenario", "Add --scenario server, say")
    return wanted


@dataclass(frozen=True, slots=True)
class ScenarioOptions:
    """What was asked for; None where nothing was."""

    scenario: str | None
    target: str | None
    rate: float | None
    queries: int | None
    streams: int | None
    seed: int | None
    mlperf: bool
    seconds: float | None
    data: Path | None
    token_file: Path | None
    ca: Path | None

    @staticmethod
    def valid(profile: Profile) -> bool:
        """Whether all runs keep the rules."""
        return all(result.outcome is None or result.outcome.valid for result in profile.results)

    def chosen(self) -> Scenario:
        """What was asked for.

        Raises:
            SpecError: options do not go together.
        """
        from edgekit.profile.scenarios.choose import choose

        return choose(
            self.scenario or "single-stream",
            target=self.target,
            rate=self.rate,
            seconds=self.seconds,
            queries=self.queries,
            seed=self.seed,
            mlperf=self.mlperf,
        )

    def of_bundle(
        self,
        bundle: Bundle,
        scenario: Scenario,
        settings: Settings,
        runtime: str | None,
        journal: Journal,
    ) -> Profile:
        """Run it on a bundle.

        Args:
            bundle: an opened one.
            scenario: the one :meth:`chosen`.
            settings: without the streams.
            runtime: only this runtime's artifacts.
            journal: of this run.

        Raises:
            EdgekitError: the work failed.
        """
        from edgekit.cli._console import shown_progress
        from edgekit.profile.scenarios.run import scenario_of_bundle

        with shown_progress() as progress:
            return scenario_of_bundle(
                bundle,
                scenario,
                runtime=runtime,
                settings=settings.model_copy(update={"streams": self.streams or 1}),
                journal=journal,
                progress=progress,
            )

    def of_server(self, url: str, settings: Settings) -> Profile:
        """Run it on a server.

        Args:
            url: of its model.
            settings: without the streams.

        Raises:
            EdgekitError: options do not go together, or the work failed.
        """
        from edgekit.cli._console import shown_progress
        from edgekit.cli._credentials import certificates, read_token
        from edgekit.cli._extras import needs

        scenario = self.chosen()
        extra = "serve" if url.startswith("grpc") else "client"
        with needs(extra, f"edgekit profile {url}"), needs("client", f"edgekit profile {url}"):
            from edgekit.profile.scenarios.run import scenario_of_server
            from edgekit.profile.targets.connect import Access

            if extra == "serve":
                import grpc  # noqa: F401, tells whether it can be asked
        streams = self.streams or (_UNDER_WAY if scenario.name == "offline" else 1)
        with shown_progress() as progress:
            return scenario_of_server(
                url,
                scenario,
                settings=settings.model_copy(update={"streams": streams}),
                access=Access(
                    read_token(self.token_file), certificates(self.ca, None, None), self.ca
                ),
                data=self.data,
                progress=progress,
            )
