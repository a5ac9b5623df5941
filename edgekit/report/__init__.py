"""The report: ``report.html`` for people, ``report.json`` for machines, and more on request."""

from __future__ import annotations

from edgekit.report.write import (
    FORMATS,
    parse_formats,
    profile_for,
    write_comparison,
    write_history,
    write_report,
)

__all__ = [
    "FORMATS",
    "parse_formats",
    "profile_for",
    "write_comparison",
    "write_history",
    "write_report",
]
