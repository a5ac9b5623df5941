"""``edgekit doctor``."""

from __future__ import annotations

from edgekit.cli._options import Json

__all__ = ["doctor"]


def doctor(json: Json = False) -> None:
    """Say what this machine can run, build and serve."""
    from dataclasses import asdict

    from edgekit.cli._console import print_json, stdout
    from edgekit.doctor import diagnose

    found = diagnose()
    if json:
        print_json({**asdict(found), "machine": found.machine.model_dump(mode="json")})
        return
    from rich.markup import escape
    from rich.table import Table

    console, machine = stdout(), found.machine
    features = ", ".join(machine.features) or "no instruction sets known to edgekit"
    facts = Table(show_header=False, box=None)
    facts.add_row("CPU", f"{machine.cpu}, {machine.cores} cores, {features}")
    facts.add_row("target", found.target)
    facts.add_row("int8", found.int8)
    facts.add_row("memory", f"{machine.memory_bytes / 2**30:.1f} GiB")
    facts.add_row("system", f"{machine.system}, Python {machine.python}")
    facts.add_row("GPU", "; ".join(found.gpus) or "none found (nvidia-smi, /sys/class/drm)")
    console.print(facts)
    table = Table("", "for", "package", "version or reason", box=None)
    for part in found.parts:
        mark = "[green]✓[/]" if part.usable else "[red]✗[/]"
        mend = f". Run: {part.install}" if part.install else ""
        told = part.version if part.usable else f"{part.reason}{mend}"
        table.add_row(mark, part.name, part.package, escape(told or ""))
    console.print(table)
