"""What people see while a command works, and what machines read when it is done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from edgekit.progress import Progress

__all__ = ["print_json", "shown_progress", "stdout"]


def stdout() -> Any:
    """The console that results go to."""
    from rich.console import Console

    return Console()


def print_json(value: object) -> None:
    """Print one JSON document."""
    from edgekit import strict_json

    sys.stdout.write(strict_json.dumps(value))


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A progress bar on stderr; one plain line a stage where stderr is not a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        yield _Bars(bar)


class _Bars:
    """One bar a stage: it pulses while the stage runs and fills when it is done."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: Any = None

    def stage(self, name: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, total=1, completed=1, detail="")
            self._bar.stop_task(self._task)
        self._task = self._bar.add_task(name, total=None, detail="")

    def update(self, detail: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, detail=detail)


class _Lines:
    def __init__(self) -> None:
        self._start = time.monotonic()

    def stage(self, name: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._start:6.1f} s] {name}\n")

    def update(self, detail: str) -> None:
        pass
