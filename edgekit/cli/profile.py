"""``edgekit profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import BundlePath, Cores, Device, Json, Sizes, Threads

__all__ = ["profile"]


def profile(
    context: typer.Context,
    bundle: BundlePath,
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples in one inference [default: 1].")
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(min=1, help="Sessions of each artifact at the same time [default: 1]."),
    ] = None,
    size: Sizes = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Time limit of the run [default: 20]; of each point, with --sweep [default: 5].",
        ),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B ...",
            help="Try other settings: threads=1,2 batch=1,8 streams=1,2 runtime=A,B "
            "precision=fp32,int8 size:DIMENSION=16,128, or some of them.",
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(help="Say what is best: latency, p99, throughput, 'throughput with p99<8ms'."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Store what is best for --goal as the bundle's default.")
    ] = False,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="Fail (1) unless it holds: p99<8ms, drop<0.5, p50<1.05x; repeat."),
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="A kept profile, for gates in x.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run of this command that was stopped.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write everything measured: FILE.json, FILE.npz or FILE.parquet [default: a new "
            "file in NAME-profiles beside the bundle].",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of a bundle's artifacts here.

    All artifacts take turns in one run, so that the machine's moods hit them alike. What --threads,
    --batch, --streams and --device do not say is as the bundle's default says, where it has one.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._console import print_json, stdout
    from edgekit.cli._judged import asked
    from edgekit.cli._kept import begun, keeping, kept
    from edgekit.cli._live import live_view
    from edgekit.profile.bundle import profile_bundle
    from edgekit.profile.sizes import parse_sizes
    from edgekit.profile.sweep import parse_sweep
    from edgekit.report.table import print_latency
    from edgekit.runtimes.cores import hold_process

    if cores is not None:
        held = hold_process(cores)
        threads = threads or held
    wanted = parse_sweep(sweep) if sweep else None
    opened = Bundle.open(bundle)
    judge = asked(opened, wanted, goal=goal, write=write, gates=gate or [], baseline=baseline)
    path, journal = begun(opened, output, context.params, resume=resume)
    with keeping(journal), live_view(json=json) as view:
        found = profile_bundle(
            opened,
            runtime=runtime,
            threads=threads,
            device=device,
            batch=batch,
            streams=streams,
            sizes=parse_sizes(size or []),
            seconds=seconds,
            sweep=wanted,
            journal=journal,
            view=view,
        )
    stored = kept(found, path, journal)
    if json:
        print_json(found.model_dump(mode="json"))
    elif wanted is None:
        print_latency(found.samples, stdout())
    if not judge.tell(found, show=not json):
        raise typer.Exit(1)
    if not stored:
        raise typer.Exit(2)
