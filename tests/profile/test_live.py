"""What a terminal shows while a run goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.live import Live

from edgekit.bundle import Bundle
from edgekit.cli._live import LiveTable, sparkline
from edgekit.cli._many import spread
from edgekit.profile.points import Point
from edgekit.profile.records import Settings
from edgekit.profile.samples import Samples
from tests.profile.test_choose import point


def samples() -> Samples:
    return point(1.0, rounds=200).samples[0]


@pytest.mark.parametrize(
    ("values", "shown"),
    [([1.0, 1.0, 1.0], "▁▁▁"), ([1.0, 1.01], "▁▂"), ([1.0, 2.0, 3.0], "▁▅█"), ([0.0], "▁")],
)
def test_small_differences_look_small(values: list[float], shown: str) -> None:
    assert sparkline(values) == shown


def test_the_table_tells_what_differs_between_points(bundle: Bundle) -> None:
    artifact = bundle.manifest.artifacts[0]
    points = [Point(artifact, Settings(threads=n, batch=2)) for n in (1, 2)]
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Live(console=console, auto_refresh=False) as live:
        view = LiveTable(live, console)
        view.planned(points, 5)
        view.begins(points)
        view.took(points, [samples(), samples()])
        table = view.table()
    shown = Console(file=io.StringIO(), width=100)
    with shown.capture() as captured:
        shown.print(table)
    text = captured.get()
    assert "threads" in text
    assert "batch" not in text  # it is the same for all
    assert "800" in text
    assert "stable" in text
    assert "0 of 2 points done, 10 s left" in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("x.edge --sweep a=1 b=2", "x.edge --sweep a=1 --sweep b=2"),
        ("--sweep a=1 size:b=2 x.edge --json", "--sweep a=1 --sweep size:b=2 x.edge --json"),
        ("--sweep a=1 --size n=2 m=3", "--sweep a=1 --size n=2 m=3"),
        ("--size n=2", "--size n=2"),
    ],
)
def test_a_sweep_takes_every_setting_after_it(line: str, wanted: str) -> None:
    assert " ".join(spread(line.split())) == wanted
