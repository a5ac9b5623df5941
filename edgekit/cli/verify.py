"""``edgekit verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekit.cli._options import BundlePath, Json

__all__ = ["verify"]


def verify(
    bundle: BundlePath,
    runtime: Annotated[str | None, typer.Option(help="Only this runtime's artifacts.")] = None,
    json: Json = False,
) -> None:
    """Check a bundle's hashes and its artifacts' outputs.

    Needs no PyTorch: the original's outputs are stored in the bundle. Exit code 1 when an
    artifact fails, 2 when the bundle is damaged.
    """
    from edgekit.bundle import Bundle
    from edgekit.cli._console import print_json, stdout
    from edgekit.errors import GateError
    from edgekit.report.table import print_verification
    from edgekit.verify import verify_bundle

    records = verify_bundle(Bundle.open(bundle), runtime)
    if json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        print_verification(records, stdout())
    failed = [record for record in records if record.ran and not record.passed]
    if failed:
        raise GateError(
            f"fails verification: {failed[0].reason}",
            where=f"{bundle}, artifact {failed[0].artifact}",
            fix="Do not deploy it; build the bundle again",
        )
