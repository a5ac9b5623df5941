"""``edgekit profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli._options import Cores, Device, Json, Sizes, Threads

if TYPE_CHECKING:
    from edgekit.profile.records import Profile, Settings

__all__ = ["profile"]


def profile(
    source: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|URL",
            help="A NAME.edge folder, or a model of a running server: http://host:8000/MODEL or "
            "grpc://host:8001/MODEL.",
        ),
    ],
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one inference.")] = 1,
    size: Sizes = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="Time limit of the run [default: 20]; of a scenario, the least [10]."
        ),
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="MLPerf's: single-stream, multi-stream, server, offline."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="p99<10ms",
            help="For the server scenario: find the highest rate that holds it. In quotes.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="For the server scenario: offer this many queries a second only."),
    ] = None,
    queries: Annotated[
        int | None,
        typer.Option(min=1, help="For a scenario: at least so many (offline: samples)."),
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For a scenario: sessions that run at the same time [1]; of a server, requests "
            "under way in the offline scenario [32].",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the server scenario's random arrivals [0].")
    ] = None,
    mlperf: Annotated[
        bool, typer.Option("--mlperf", help="For a scenario: MLPerf's own rules, 600 s a run.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="x.edge", help="For a URL: send this bundle's sample [default: random values]."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="For a URL: file with the token [default: the variable EDGEKIT_TOKEN]."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="For a URL: certificates to trust, PEM.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write everything that was measured as JSON here."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of a bundle's artifacts here.

    All artifacts take turns in one run, so that the machine's moods hit them alike. With --scenario
    each runtime's selected artifact gets the load of an MLPerf scenario instead, and the exit code
    is 1 where a run is not valid by its rules. A URL is a server that gets it.
    """
    from edgekit.cli._scenario import ScenarioOptions
    from edgekit.profile.records import Settings
    from edgekit.profile.sizes import parse_sizes
    from edgekit.runtimes.cores import hold_process

    options = ScenarioOptions(
        scenario, target, rate, queries, streams, seed, mlperf, seconds, data, token_file, ca
    )
    wanted = options.wanted(source)
    settings = Settings(threads=threads, batch=batch, sizes=parse_sizes(size or []), device=device)
    if cores is not None:
        held = hold_process(cores)
        settings = settings.model_copy(update={"threads": threads or held})
    if wanted:
        found = options.run(source, settings, runtime, cores)
    else:
        found = _interleaved(Path(source), settings, runtime, seconds or 20)
    _show(found, output, json=json)
    if any(result.outcome and not result.outcome.valid for result in found.results):
        raise typer.Exit(1)


def _interleaved(path: Path, settings: Settings, runtime: str | None, seconds: float) -> Profile:
    from edgekit.bundle import Bundle
    from edgekit.cli._console import shown_progress
    from edgekit.profile.bundle import profile_bundle

    opened = Bundle.open(path)
    with shown_progress() as progress:
        progress.stage("Profile")
        return profile_bundle(
            opened,
            runtime=runtime,
            threads=settings.threads,
            device=settings.device,
            batch=settings.batch,
            sizes=settings.sizes,
            seconds=seconds,
        )


def _show(found: Profile, output: Path | None, *, json: bool) -> None:
    from edgekit import strict_json
    from edgekit.atomic import write_file
    from edgekit.cli._console import print_json, stdout
    from edgekit.report.scenario import print_outcomes
    from edgekit.report.table import print_latency

    document = found.model_dump(mode="json")
    if output is not None:
        write_file(output, strict_json.dumps(document).encode())
    if json:
        print_json(document)
    elif any(result.outcome for result in found.results):
        print_outcomes(found, stdout())
    else:
        print_latency(found.samples, stdout())
