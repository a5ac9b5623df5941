"""The plots of the report, one file a subject, drawn by :mod:`edgekit.report.svg`."""
