"""What a board needs before edgekit runs there: an interpreter with edgekit, and the bundle."""

from __future__ import annotations

import json
import re
import shlex
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from edgekit.errors import OutputError
from edgekit.profile.remote.parts import Part, add_bytes
from edgekit.profile.remote.ssh import Answer, Board, RemoteError
from edgekit.profile.remote.wheel import Wheel

__all__ = ["BASE", "Found", "Python", "look", "place_bundle", "place_edgekit"]

#: Sets ``$base``, where everything is kept.
BASE = 'base="${XDG_CACHE_HOME:-$HOME/.cache}/edgekit/remote"\n'

#: Removes what was not used for a month: an installation takes hundreds of megabytes.
_FORGET = """
old='rm -rf "${1%/ready}"'
find "$base" -maxdepth 2 -path '*/env-*/ready' -mtime +30 -exec sh -c "$old" sh {} \\; || :
find "$base" -maxdepth 1 -name 'bundle-*' -mtime +30 -exec rm -rf {} + || :
"""

_PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")

#: Run by each Python there, also by ones that are too old for edgekit.
_LOOK = """
import json, os, platform, sys
try:
    from importlib import metadata
    missing = []
    for name in sys.argv[1:]:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
except ImportError:
    missing = sys.argv[1:]
gpu = any(map(os.path.exists, ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvmap")))
print(json.dumps({"path": sys.executable, "version": list(sys.version_info[:2]),
                  "full": platform.python_version(), "machine": platform.machine(),
                  "missing": missing, "gpu": gpu}))
"""

#: Of pip, when it finds no index.
_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|NewConnectionError|Network is unreachable"
    r"|Connection refused|Max retries|timed out|ConnectTimeout|ProxyError"
)


@dataclass(frozen=True, slots=True)
class Found:
    """The interpreter on the board that will be used.

    Attributes:
        path: of it.
        version: major and minor.
        full: version in full.
        machine: architecture, such as ``aarch64``.
        prepared: whether it has all that edgekit's core needs.
        gpu: whether the board has an NVIDIA GPU.
    """

    path: str
    version: tuple[int, int]
    full: str
    machine: str
    prepared: bool
    gpu: bool


@dataclass(frozen=True, slots=True)
class Python:
    """How to start edgekit there.

    Attributes:
        key: changes with whatever is installed.
        start: shell text of the interpreter, with what must be set for it.
    """

    key: str
    start: str


def look(board: Board, wheel: Wheel, python: str | None) -> Found:
    """Find a Python that edgekit can run with.

    Args:
        board: to look at.
        wheel: what it shall run.
        python: the only one to look at.

    Raises:
        RemoteError: none is there, or all are too old; or the board cannot be reached.
    """
    names = [python] if python else _PYTHONS
    check = f"{shlex.quote(_LOOK)} {shlex.join(wheel.requires)}"
    tries = [f"{shlex.quote(name)} -c {check} 2>/dev/null" for name in names]
    answer = board.run("\n".join([*tries, "exit 0"]))
    found = [
        Found(
            path=one["path"],
            version=(one["version"][0], one["version"][1]),
            full=one["full"],
            machine=one["machine"],
            prepared=not one["missing"],
            gpu=one["gpu"],
        )
        for line in answer.out.decode(errors="replace").splitlines()
        if line.startswith("{")
        for one in [json.loads(line)]
    ]
    able = [one for one in found if one.version >= wheel.python]
    if not able:
        oldest = ".".join(map(str, wheel.python))
        has = ", ".join(f"{one.path} is {one.full}" for one in found)
        raise RemoteError(
            f"needs Python {oldest} or newer: {has or 'there is no ' + names[0]}",
            where=board.name,
            fix=f"Install Python {oldest} there, or name one with --remote-python",
        )
    return able[0]


def place_edgekit(
    board: Board,
    found: Found,
    wheel: Wheel,
    extras: Sequence[str],
    *,
    named: bool,
    wheels: Path | None,
    tell: Callable[[str], object],
) -> Python:
    """See that edgekit is installed there: once for each version, extras when they are needed.

    Args:
        board: where.
        found: interpreter.
        wheel: of edgekit.
        extras: of edgekit to install.
        named: whether the user chose the interpreter. One that is prepared is then used as it is.
        wheels: folder with wheels of what edgekit needs, for a board without a network.
        tell: gets lines on what is done.

    Raises:
        RemoteError: it cannot be installed.
        OutputError: ``wheels`` holds none.
    """
    as_it_is = named and found.prepared
    key = sha256(wheel.data + repr((found.path, found.full, as_it_is)).encode()).hexdigest()[:16]
    folder = f'"$base/env-{key}"'
    if as_it_is:
        start = f'PYTHONPATH={folder}/site:"${{PYTHONPATH:-}}" {shlex.quote(found.path)}'
        extras = ()
    else:
        start = f"{folder}/venv/bin/python"
    given = _given(wheels)
    marks = ["ready", *(f"tried-{extra}" for extra in extras)]
    there = " && ".join(f"touch -c {folder}/{mark} && test -f {folder}/{mark}" for mark in marks)
    if not given and board.run(BASE + there).code == 0:
        return Python(key, start)

    def send(stream: IO[bytes]) -> None:
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            add_bytes(tar, wheel.name, wheel.data)
            for path in given:
                tar.add(path, f"wheels/{path.name}")

    tell(f"Install edgekit on {board.name}\n")
    python = shlex.quote(found.path)
    install = (
        f"{python} -m zipfile -e {wheel.name} site"
        if as_it_is
        else _venv(python, wheel.name, extras, offline=bool(given))
    )
    script = f"{BASE}set -eu\n{_FORGET}mkdir -p {folder}\ncd {folder}\ntar xf -\n{install}\n"
    answer = board.run(script + "touch ready", send=send)
    if answer.code:
        raise _not_installed(board, answer, offline=bool(given))
    for line in answer.said.splitlines():
        if line.startswith("missing: "):
            tell(f"{board.name} cannot install edgekit[{line.removeprefix('missing: ')}]\n")
    return Python(key, start)


def _given(wheels: Path | None) -> list[Path]:
    if wheels is None:
        return []
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise OutputError(
            "holds no wheels",
            where=str(wheels),
            fix="Fill it with pip download where there is a network",
        )
    return found


def _venv(python: str, wheel: str, extras: Sequence[str], *, offline: bool) -> str:
    """A virtual environment that sees the system's packages: TensorRT of a Jetson lies there.

    An engine that has no wheel for this board is told, and left out.
    """
    pip = "venv/bin/python -m pip install --quiet --disable-pip-version-check"
    if offline:
        pip += " --no-index --find-links wheels"
    lines = [f"test -f ready || {python} -m venv --clear --system-site-packages venv"]
    lines += [f"test -f ready || {pip} ./{wheel}"]
    lines += [
        f"test -f tried-{extra} || {pip} './{wheel}[{extra}]' || echo 'missing: {extra}' >&2\n"
        f"touch tried-{extra}"
        for extra in extras
    ]
    if offline:  # there may be more in the folder than the last time
        lines.insert(0, "rm -f tried-*")
    return "\n".join(lines)


def _not_installed(board: Board, answer: Answer, *, offline: bool) -> RemoteError:
    said = answer.said + answer.out.decode(errors="replace")
    if "ensurepip" in said or "No module named venv" in said:
        return RemoteError(
            "its Python cannot make virtual environments",
            where=board.name,
            fix="Install python3-venv there, or name a prepared Python with --remote-python",
        )
    last = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in last if line.startswith("ERROR: ")] or last
    if offline:
        fix = "Add what is missing to the folder of --remote-wheels"
    elif _NO_NETWORK.search(said):
        return RemoteError(
            "pip finds no package index there",
            where=board.name,
            fix="Copy wheels with --remote-wheels FOLDER, or name a prepared --remote-python",
        )
    else:
        fix = "Mend that there, or name a prepared Python with --remote-python"
    told = errors[0].removeprefix("ERROR: ") if errors else f"ended with {answer.code}"
    return RemoteError(f"edgekit cannot be installed: {told}", where=board.name, fix=fix)


def place_bundle(board: Board, part: Part, tell: Callable[[str], object]) -> str:
    """See that the bundle is there, whole.

    Returns:
        Shell text of its path.

    Raises:
        RemoteError: it cannot be copied.
    """
    folder = f'"$base/bundle-{part.digest[:16]}"'
    path = f"{folder}/{shlex.quote(part.bundle.path.resolve().name)}"
    if board.run(f"{BASE}touch -c {folder} && test -f {path}/bundle.json").code == 0:
        return path
    tell(f"Copy {part.bundle.path.name} to {board.name}\n")
    new = f'"$base/bundle-{part.digest[:16]}.$$"'
    answer = board.run(
        f"{BASE}set -eu\nmkdir -p {new}\ntrap 'rm -rf '{new} EXIT\ncd {new}\ntar xf -\n"
        f"rm -rf {folder}\nmv {new} {folder}",
        send=part.write,
    )
    if answer.code:
        last = answer.said.strip().rpartition("\n")[2]
        raise RemoteError(
            f"cannot copy the bundle there: {last}", where=board.name, fix="Look at ~/.cache there"
        )
    return path
