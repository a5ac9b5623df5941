"""The report: ``report.html`` for people, ``report.json`` for machines."""

from __future__ import annotations

from edgekit.report.write import write_report

__all__ = ["write_report"]
