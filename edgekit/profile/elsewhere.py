"""``edgekit profile`` in another process, here or on another machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgekit.errors import EdgekitError
from edgekit.profile.records import Profile

__all__ = ["Brought", "Ended", "Teller", "follow", "read_profile"]

#: What :func:`edgekit.cli.main` puts before the one line of an expected error.
_MARK = "edgekit: "
#: How a crash begins to talk; its last line is enough.
_CRASHES = (
    "Traceback (most recent call last)",
    "terminate called",
    "Fatal Python error",
    "OpenBLAS error",
)


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of it.

    Attributes:
        profile: of all that could be measured, None where nothing could.
        error: about what could not, None where everything could.
    """

    profile: Profile | None
    error: EdgekitError | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit status, negative for a signal.
        said: what it wrote to stderr.
    """

    code: int
    said: str

    @property
    def error(self) -> EdgekitError:
        """Its own error line, or the last that it said, with its own exit status."""
        told = [line for line in self.said.splitlines() if line.startswith(_MARK)]
        if told:
            error = EdgekitError(told[-1].removeprefix(_MARK))
            error.exit_code = self.code
            return error
        last = self.said.strip().rpartition("\n")[2]
        return EdgekitError(
            f"ended with {self.code}: {last or 'it said nothing'}", where="edgekit profile"
        )


class Teller:
    """Passes on what the other process says: neither its error line nor a crash line by line."""

    def __init__(self) -> None:
        self._quiet = False

    def __call__(self, line: str) -> None:
        self._quiet = self._quiet or line.startswith(_CRASHES)
        if not self._quiet and not line.startswith(_MARK):
            sys.stderr.write(line)


def follow(command: Sequence[str]) -> Ended:
    """Run a command, and pass on what it says meanwhile. Its stdout goes nowhere."""
    said, tell = [], Teller()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                said.append(line)
                tell(line)
        except BaseException:
            process.terminate()  # at Ctrl-C, whoever sent it to this process only
            raise
    return Ended(process.returncode, "".join(said))


def read_profile(
    file: Path | None = None, *, text: bytes | None = None, where: str = ""
) -> Profile:
    """The document that the other process wrote.

    Raises:
        EdgekitError: it is none, or another version's.
    """
    raw = file.read_bytes() if file is not None else text or b""
    try:
        return Profile.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise EdgekitError(
            f"its profile cannot be read: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=where or str(file),
            fix="Use the same version of edgekit on both sides",
        ) from error
