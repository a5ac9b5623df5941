"""A scenario on each artifact of a bundle, or on a server: what it gave, as a profile."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit import runtimes
from edgekit.bundle import Bundle
from edgekit.errors import GateError
from edgekit.machine import this_machine
from edgekit.manifest import Artifact
from edgekit.profile.inputs import bundle_feeds, usable_artifacts
from edgekit.profile.journal import Journal
from edgekit.profile.made import made_here
from edgekit.profile.records import Profile, Result, Settings
from edgekit.profile.samples import Samples
from edgekit.profile.scenarios.base import Ended, Scenario
from edgekit.profile.server_stages import server_stages
from edgekit.profile.targets.session import SessionTarget
from edgekit.progress import Progress, Silent
from edgekit.runtimes import SessionOptions
from edgekit.spec import Feeds
from edgekit.timestamp import timestamp

if TYPE_CHECKING:
    from edgekit.profile.targets.connect import Access

__all__ = ["scenario_of_bundle", "scenario_of_server"]


def scenario_of_bundle(
    bundle: Bundle,
    scenario: Scenario,
    *,
    runtime: str | None = None,
    settings: Settings = Settings(),  # noqa: B008, frozen
    journal: Journal | None = None,
    progress: Progress = Silent(),  # noqa: B008, without state
) -> Profile:
    """Run a scenario on the artifact selected for each runtime, one after the other.

    Args:
        bundle: an opened bundle.
        scenario: what load to offer.
        runtime: only this runtime's.
        settings: how; without threads, the streams share all cores.
        journal: where the result of each artifact is written, and what was before.
        progress: told of each step.

    Raises:
        RuntimeUnavailableError: the bundle has nothing that this machine can run.
        SpecError: the model's batch is fixed, or no dynamic dimension has that name.
        GateError: no query was answered.
    """
    threads = settings.threads or max(1, this_machine().cores // settings.streams)
    settings = settings.model_copy(update={"threads": threads})
    artifacts = _selected(bundle, usable_artifacts(bundle, runtime))
    bundle_feeds(bundle, settings.batch, settings.sizes)  # tells at once whether it fits
    journal = journal or Journal()
    results = []
    for artifact in artifacts:
        progress.stage(f"{scenario.name} on {artifact.id}")
        make = partial(_measured, bundle, artifact, scenario, settings, progress)
        results.append(journal.piece(artifact.id, Result, make))
    return made_here(bundle.manifest.name, results, artifacts)


def _measured(
    bundle: Bundle, artifact: Artifact, scenario: Scenario, settings: Settings, progress: Progress
) -> Result:
    feeds = partial(_sized, bundle, settings.sizes)
    options = SessionOptions(threads=settings.threads, device=settings.device)
    runtime, file = runtimes.require(artifact.runtime), bundle.file(artifact)
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(runtime.load(file, options)) for _ in range(settings.streams)
        ]
        target = SessionTarget(sessions, feeds, batch=settings.batch)
        stack.enter_context(target)
        started = timestamp()
        ended = scenario.run(target, progress.update)
    samples = _samples(ended, scenario, artifact.id, artifact.runtime, feeds(1), started)
    return _result(ended, samples, settings)


def scenario_of_server(
    url: str,
    scenario: Scenario,
    *,
    settings: Settings = Settings(),  # noqa: B008, frozen
    access: Access | None = None,
    data: Path | None = None,
    progress: Progress = Silent(),  # noqa: B008, without state
) -> Profile:
    """Run a scenario against a model of a running server.

    Args:
        url: ``http://host:port/MODEL`` or ``grpc://host:port/MODEL``; https and grpcs, too.
        scenario: what load to offer.
        settings: sizes of dynamic dimensions; for the offline scenario samples in a request and
            requests under way at a time.
        access: what the server asks for, None for nothing.
        data: a bundle whose first stored sample is sent; None for random values.
        progress: told of each step.

    Raises:
        ClientError: nothing answers there, or not for that model.
        SpecError: the inputs do not fit the model.
        GateError: no query was answered.
    """
    from edgekit.profile.targets.connect import Access, connect, parse_url

    address = parse_url(url)
    connected = connect(address, settings, access or Access(), data)
    progress.stage(f"{scenario.name} on {url}")
    started = timestamp()
    with connected.target as target:
        ended = scenario.run(target, progress.update)
    runtime = address.scheme.removesuffix("s")
    samples = _samples(ended, scenario, address.model, runtime, connected.feeds, started)
    result = _result(ended, samples, settings)
    if runtime == "http":
        token, tls = (access.token, access.tls) if access is not None else (None, None)
        stages = server_stages(address.server, address.model, token=token, tls=tls)
        result = result.model_copy(update={"stages": stages})
    return made_here(url, [result], server=connected.server)


def _selected(bundle: Bundle, usable: list[Artifact]) -> list[Artifact]:
    """The ones that would be served; all, where none of these runs here."""
    chosen = bundle.manifest.selected
    return [artifact for artifact in usable if artifact.id in chosen] or usable


def _sized(bundle: Bundle, sizes: Mapping[str, int], count: int) -> Feeds:
    return bundle_feeds(bundle, count, sizes)


def _samples(
    ended: Ended, scenario: Scenario, artifact: str, runtime: str, feeds: Feeds, started: str
) -> Samples:
    run = ended.run
    if not run.latencies.size:
        raise GateError(
            f"not one query was answered: {'; '.join(ended.outcome.reasons)}",
            where=artifact,
            fix="Offer a lower rate",
        )
    return Samples(
        artifact=artifact,
        runtime=runtime,
        run="",
        scenario=scenario.name,
        shapes={name: array.shape for name, array in feeds.items()},
        threads=None,
        warmup=ended.warm,
        latencies_ns=tuple(run.latencies.tolist()),
        starts_ns=tuple(run.starts.tolist()),
        machine=this_machine(),
        started=started,
    )


def _result(ended: Ended, samples: Samples, settings: Settings) -> Result:
    update = {"run": uuid.uuid4().hex, "threads": settings.threads, "device": settings.device}
    return Result(
        samples=samples.model_copy(update=update), settings=settings, outcome=ended.outcome
    )
