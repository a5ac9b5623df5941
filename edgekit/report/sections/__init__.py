"""The sections of the page, one a file: each takes a :class:`~edgekit.report.view.View`."""
