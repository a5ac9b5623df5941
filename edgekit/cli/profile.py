"""``edgekit profile``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli._options import Cores, Device, Json, Sizes, Threads

if TYPE_CHECKING:
    from edgekit.cli._scenario import ScenarioOptions
    from edgekit.profile.records import Profile, Settings

__all__ = ["profile"]


#: Options that are for this process, not for one elsewhere that it starts.
_HERE = frozenset({
    "baseline", "gate", "goal", "json", "output", "remote", "remote_python", "remote_wheels",
    "resume", "write",
})  # fmt: skip


def profile(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|URL",
            help="A NAME.edge folder, or a model of a running server: http://host:8000/MODEL or "
            "grpc://host:8001/MODEL.",
        ),
    ],
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Only the artifact of this id.")] = None,
    threads: Threads = None,
    device: Device = None,
    cores: Cores = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Samples in one inference [default: 1].")
    ] = None,
    streams: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Sessions of each artifact at the same time [default: 1]; of a server, requests "
            "under way in the offline scenario [default: 32].",
        ),
    ] = None,
    size: Sizes = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Time limit of the run [default: 20]; of each point, with --sweep [default: 5]; "
            "of a scenario, the least [default: 10].",
        ),
    ] = None,
    costs: Annotated[
        bool,
        typer.Option(
            help="Measure load time, cold start, memory, processor time and energy, too, in fresh "
            "processes."
        ),
    ] = True,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers/--no-layers",
            help="Time each operator, too: some seconds more an artifact.",
        ),
    ] = True,
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

    With --scenario each runtime's selected artifact gets the load of an MLPerf scenario instead,
    and the exit code is 1 where a run is not valid by its rules. A URL is a server that gets it.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._forward import forwarded
    from edgekit.cli._judged import asked
    from edgekit.cli._kept import begun, keeping, kept
    from edgekit.cli._live import live_view
    from edgekit.cli._scenario import ScenarioOptions, wants_load
    from edgekit.profile.bundle import profile_bundle
    from edgekit.profile.elsewhere import Brought
    from edgekit.profile.limited import profile_limited
    from edgekit.profile.limits import parse_limits
    from edgekit.profile.records import Settings
    from edgekit.profile.remote import profiled_remotely
    from edgekit.profile.sizes import parse_sizes
    from edgekit.profile.sweep import parse_sweep
    from edgekit.runtimes.cores import hold_process

    load = ScenarioOptions(
        scenario, target, rate, queries, streams, seed, mlperf, seconds, data, token_file, ca
    )
    under_load = wants_load(context)
    sizes = parse_sizes(size or [])
    if cores is not None and remote is None:
        held = hold_process(cores)
        threads = threads or held
    if under_load:
        settings = Settings(threads=threads, batch=batch or 1, sizes=sizes, device=device)
        raise _under_load(context, load, settings)
    wanted = parse_sweep(sweep) if sweep else None
    opened = Bundle.open(Path(source))
    judge = asked(opened, wanted, goal=goal, write=write, gates=gate or [], baseline=baseline)
    path, journal = begun(opened, output, context.params, resume=resume)
    with keeping(journal), ExitStack() as stack:
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
            view = stack.enter_context(live_view(json=json))
            brought = Brought(
                profile_bundle(
                    opened,
                    runtime=runtime,
                    artifact=artifact,
                    threads=threads,
                    device=device,
                    batch=batch,
                    streams=streams,
                    sizes=sizes,
                    seconds=seconds,
                    sweep=wanted,
                    journal=journal,
                    view=view,
                    costs=costs,
                    layers=layers,
                )
            )
        measured = brought.profile
        if measured is not None:
            measured = measured.model_copy(update={"command": _command(context)})
        done = measured is None or kept(measured, path, journal)
    passed = True
    if measured is not None:
        _show(measured, json=json, points=wanted is not None)
        passed = judge.tell(measured, show=not json)
    raise brought.error or _exit(done=done, passed=passed)


def _under_load(context: typer.Context, load: ScenarioOptions, settings: Settings) -> typer.Exit:
    from edgekit.bundle import Bundle
    from edgekit.cli._kept import begun, keeping, kept, stored
    from edgekit.cli._scenario import is_url
    from edgekit.profile.export import check_samples_path

    options = context.params
    source, output, told = options["source"], options["output"], {"command": _command(context)}
    if is_url(source):
        if output is not None:
            check_samples_path(output)
        found = load.of_server(source, settings).model_copy(update=told)
        done = stored(found, output)
    else:
        scenario = load.chosen()  # refuses what does not go together before anything is written
        bundle = Bundle.open(Path(source))
        path, journal = begun(bundle, output, options, resume=options["resume"])
        with keeping(journal):
            found = load.of_bundle(bundle, scenario, settings, options["runtime"], journal)
            found = found.model_copy(update=told)
            done = kept(found, path, journal)
    _show(found, json=options["json"])
    return _exit(done=done, passed=load.valid(found))


def _command(context: typer.Context) -> tuple[str, ...]:
    """What measures the same again."""
    from edgekit.cli._forward import forwarded

    options = forwarded(context, {"json", "output", "resume", "token_file", "write"})
    return ("edgekit", "profile", context.params["source"], *options)


def _exit(*, done: bool, passed: bool) -> typer.Exit:
    """1 where the work failed a gate, 2 where its result is not where it should be."""
    return typer.Exit(1 if not passed else 0 if done else 2)


def _show(found: Profile, *, json: bool, points: bool = False) -> None:
    """Print what was measured; the points of a sweep are printed by who judges them."""
    from edgekit.cli._console import print_json, stdout
    from edgekit.report.costs import print_costs
    from edgekit.report.findings import print_findings
    from edgekit.report.layer_table import print_all_layers
    from edgekit.report.scenario import print_outcomes
    from edgekit.report.table import print_latency

    if json:
        print_json(found.model_dump(mode="json"))
        return
    console = stdout()
    if found.remote is not None:
        told = f"remote: {found.remote}, {found.machine.cpu}, {found.machine.system}"
        console.print(told, style="bold", highlight=False, markup=False, soft_wrap=True)
    if found.simulated is not None:
        label = found.simulated.label(found.machine.cpu)
        console.print(label, style="bold", highlight=False, markup=False, soft_wrap=True)
    if any(result.outcome for result in found.results):
        print_outcomes(found, console)
    elif not points:
        print_latency(found.samples, console)
        print_all_layers(found, console)
        print_costs(found.results, console)
    print_findings(found, console)
