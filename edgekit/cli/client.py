"""``edgekit client``."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli._credentials import certificates, read_token
from edgekit.cli._options import Json

if TYPE_CHECKING:
    from edgekit.client import Client
    from edgekit.spec import Array

__all__ = ["client"]


class Action(StrEnum):
    """What to ask of the server."""

    INFER = "infer"
    PREDICT = "predict"
    METADATA = "metadata"
    READY = "ready"
    MODELS = "models"
    LOAD = "load"
    UNLOAD = "unload"
    STATS = "stats"


#: The key of the array in a .npy file.
_UNNAMED = ""

#: What cannot do without a model.
_OF_A_MODEL = frozenset({Action.INFER, Action.PREDICT, Action.LOAD, Action.UNLOAD})


def client(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8000.")],
    action: Annotated[Action, typer.Argument(help="What to ask for.", metavar="ACTION")],
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Its name there.")] = None,
    source: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="For predict: an image, a sound, ...")
    ] = None,
    input: Annotated[  # noqa: A002, the option's name
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=FILE.npy|FILE.npz",
            help="For infer; repeat for several. A .npz alone has an array for each input.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="For infer: the .npz to write.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Of the model.")] = None,
    deadline: Annotated[
        float | None, typer.Option(help="For infer and predict: seconds with all tries.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, help="Tries after the first.")] = 3,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token [default: the variable EDGEKIT_TOKEN]."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust, PEM.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Certificate to show, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    json: Json = False,
) -> None:
    """Ask a server of the Open Inference Protocol.

    ACTION: infer, predict, metadata, ready, models, load, unload, stats. `ready` exits with 1 when
    the server or the model is not.
    """
    from edgekit.cli._extras import needs

    with needs("client", "edgekit client"):
        from edgekit.client import Client

    if model is None and action in _OF_A_MODEL:
        raise typer.BadParameter(f"{action} needs a MODEL")
    if (input or output) and action is not Action.INFER:
        raise typer.BadParameter("--input and --output are for infer")
    if (source is None) is (action is Action.PREDICT):
        raise typer.BadParameter("predict needs a FILE, and nothing else takes one")
    tls = certificates(ca, cert, key)
    with Client(url, read_token(token_file), retries=retries, tls=tls) as opened:
        if action is Action.INFER:
            assert model is not None
            feeds = _read(input or [])
            found = opened.infer(model, feeds, version=version, deadline=deadline)
            _show_outputs(found, output, json=json)
        elif action is Action.READY:
            _show_ready(opened.ready(model, version), json=json)
        else:
            _show(_asked(opened, action, model, version, source, deadline))


def _asked(
    opened: Client,
    action: Action,
    model: str | None,
    version: str | None,
    source: Path | None,
    deadline: float | None,
) -> Any:
    actions: dict[Action, Callable[[], Any]] = {
        Action.METADATA: lambda: opened.metadata(model, version),
        Action.MODELS: opened.models,
        Action.STATS: lambda: opened.statistics(model, version),
        Action.LOAD: lambda: opened.load(str(model)),
        Action.UNLOAD: lambda: opened.unload(str(model)),
        Action.PREDICT: lambda: opened.predict(str(model), source or "", deadline=deadline),
    }
    return actions[action]()


def _read(given: list[str]) -> dict[str, Array]:
    """The arrays of ``NAME=FILE.npy``, ``NAME=FILE.npz`` (with one array) and ``FILE.npz``."""
    from edgekit.spec import as_stored

    feeds: dict[str, Array] = {}
    for text in given:
        name, path = text.split("=", 1) if "=" in text else ("", text)
        arrays = _arrays(Path(path))
        if name and len(arrays) != 1:
            has = ", ".join(arrays)
            raise typer.BadParameter(f"{path} has {has}: give {path} without a name")
        if not name and _UNNAMED in arrays:
            raise typer.BadParameter(f"{path} has no name for its array: give NAME={path}")
        feeds |= {name or own: as_stored(array) for own, array in arrays.items()}
    return feeds


def _arrays(path: Path) -> dict[str, Array]:
    import zipfile

    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return {_UNNAMED: loaded}
        with loaded:
            return dict(loaded)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise typer.BadParameter(f"{path} is no .npy or .npz file of plain arrays") from error


def _show_outputs(outputs: dict[str, Array], path: Path | None, *, json: bool) -> None:
    import io

    import numpy as np

    if path is not None:
        from edgekit.atomic import write_file

        stream = io.BytesIO()
        np.savez(stream, **{name: _plain(array) for name, array in outputs.items()})  # type: ignore[arg-type]
        write_file(path, stream.getvalue())
    if json:
        _show({name: _listed(array) for name, array in outputs.items()})
        return
    for name, array in outputs.items():
        told = np.array2string(array, threshold=20, edgeitems=3)
        typer.echo(f"{name} {array.dtype} {list(array.shape)}\n{told}")
    if path is not None:
        typer.echo(f"Wrote {path}")


def _show_ready(ready: bool, *, json: bool) -> None:
    if json:
        _show({"ready": ready})
    else:
        typer.echo("ready" if ready else "not ready")
    if not ready:
        raise typer.Exit(1)


def _show(value: Any) -> None:
    from edgekit.cli._console import print_json

    if value is not None:
        print_json(value)


def _plain(array: Array) -> Array:
    """BYTES without objects, which an .npz can only keep as a pickle."""
    return array.astype("S") if array.dtype.kind == "O" else array


def _listed(array: Array) -> Any:
    if array.dtype.kind != "O":
        return array.tolist()
    import numpy as np

    return np.vectorize(lambda item: item.decode(errors="replace"), otypes=[object])(array).tolist()
