"""``edgekit profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli._options import BundlePath, Cores, Device, Json, Sizes, Threads

__all__ = ["profile"]


def profile(
    bundle: BundlePath,
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one inference.")] = 1,
    size: Sizes = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of the run.")] = 20,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write everything measured: FILE.json, FILE.npz or FILE.parquet."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of a bundle's artifacts here.

    All artifacts take turns in one run, so that the machine's moods hit them alike.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._console import print_json, shown_progress, stdout
    from edgekit.profile.bundle import profile_bundle
    from edgekit.profile.export import check_samples_path, write_samples
    from edgekit.profile.sizes import parse_sizes
    from edgekit.report.table import print_latency
    from edgekit.runtimes.cores import hold_process

    if cores is not None:
        held = hold_process(cores)
        threads = threads or held
    if output is not None:
        check_samples_path(output)
    opened = Bundle.open(bundle)
    with shown_progress() as progress:
        progress.stage("Profile")
        found = profile_bundle(
            opened,
            runtime=runtime,
            threads=threads,
            device=device,
            batch=batch,
            sizes=parse_sizes(size or []),
            seconds=seconds,
        )
    if output is not None:
        write_samples(found, output)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        print_latency(found.samples, stdout())
