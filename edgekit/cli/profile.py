"""``edgekit profile``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli._options import BundlePath, Cores, Device, Json, Sizes, Threads

if TYPE_CHECKING:
    from edgekit.profile.records import Profile

__all__ = ["profile"]


#: Options that are for this process, not for one elsewhere that it starts.
_HERE = frozenset({"json", "output", "remote", "remote_python", "remote_wheels"})


def profile(
    context: typer.Context,
    bundle: BundlePath,
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one inference.")] = 1,
    size: Sizes = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of the run.")] = 20,
    artifact: Annotated[str | None, typer.Option(help="Only the artifact of this id.")] = None,
    costs: Annotated[
        bool,
        typer.Option(
            help="Measure load time, cold start, memory, processor time and energy, too, in fresh "
            "processes."
        ),
    ] = True,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="cores=1,memory=512MB",
            help="Simulate a smaller device: limits of cores, memory and cpu (50% of a core's "
            "time), or some of them, held by a cgroup where this process may make one.",
        ),
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option(
            metavar="USER@HOST[:PORT]",
            help="Profile on that board over ssh. The first time, edgekit is installed there under "
            "~/.cache/edgekit/remote.",
        ),
    ] = None,
    remote_python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Python to use there. One that has all that edgekit needs is used as it is.",
        ),
    ] = None,
    remote_wheels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Wheels to install from there, for a board without a network."
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers/--no-layers",
            help="Time each operator, too: some seconds more an artifact.",
        ),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write everything that was measured as JSON here."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the latency of a bundle's artifacts here.

    All artifacts take turns in one run, so that the machine's moods hit them alike.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._console import shown_progress
    from edgekit.cli._forward import forwarded
    from edgekit.profile.bundle import profile_bundle
    from edgekit.profile.elsewhere import Brought
    from edgekit.profile.limited import profile_limited
    from edgekit.profile.limits import parse_limits
    from edgekit.profile.remote import profiled_remotely
    from edgekit.profile.sizes import parse_sizes
    from edgekit.runtimes.cores import hold_process

    if cores is not None and remote is None:
        held = hold_process(cores)
        threads = threads or held
    opened = Bundle.open(bundle)
    with ExitStack() as stack:
        if remote is not None:
            brought = stack.enter_context(
                profiled_remotely(
                    opened,
                    remote,
                    forwarded(context, _HERE),
                    runtime=runtime,
                    artifact=artifact,
                    python=remote_python,
                    wheels=remote_wheels,
                )
            )
        elif limit is not None:
            options = forwarded(context, _HERE | {"artifact", "cores", "limit", "runtime"})
            brought = profile_limited(
                opened, parse_limits(limit), options, runtime=runtime, artifact=artifact
            )
        else:
            progress = stack.enter_context(shown_progress())
            progress.stage("Profile")
            profile = profile_bundle(
                opened,
                runtime=runtime,
                threads=threads,
                device=device,
                batch=batch,
                sizes=parse_sizes(size or []),
                seconds=seconds,
                artifact=artifact,
                costs=costs,
                layers=layers,
            )
            brought = Brought(profile)
        if brought.profile is not None:
            _keep(brought.profile, output, json=json)
    if brought.error is not None:
        raise brought.error


def _keep(found: Profile, output: Path | None, *, json: bool) -> None:
    from edgekit import strict_json
    from edgekit.atomic import write_file
    from edgekit.cli._console import print_json

    document = found.model_dump(mode="json")
    if output is not None:
        write_file(output, strict_json.dumps(document).encode())
    if json:
        print_json(document)
    else:
        _print(found)


def _print(found: Profile) -> None:
    from edgekit.cli._console import stdout
    from edgekit.report.costs import print_costs
    from edgekit.report.findings import print_findings
    from edgekit.report.layer_table import print_all_layers
    from edgekit.report.table import print_latency

    console = stdout()
    if found.remote is not None:
        told = f"remote: {found.remote}, {found.machine.cpu}, {found.machine.system}"
        console.print(told, style="bold", highlight=False, markup=False, soft_wrap=True)
    if found.simulated is not None:
        label = found.simulated.label(found.machine.cpu)
        console.print(label, style="bold", highlight=False, markup=False, soft_wrap=True)
    print_latency(found.samples, console)
    print_all_layers(found, console)
    print_costs(found.results, console)
    print_findings(found, console)
