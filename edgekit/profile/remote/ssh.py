"""Commands on another machine through the user's own ``ssh``."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from edgekit.errors import EdgekitError, SpecError

__all__ = ["Answer", "Board", "RemoteError", "parse_board"]

_LOST = 255  # what ssh ends with when ssh itself failed

#: What OpenSSH says, what that means, and how it is mended.
_REASONS = (
    (r"Could not resolve hostname", "no such host", "Check the name, or ~/.ssh/config"),
    (
        r"Connection refused|timed out|No route to host|Network is unreachable",
        "cannot be reached",
        "Check that it is on, its address and port, and that its ssh server runs",
    ),
    (
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is unknown or has changed",
        "Run ssh {name} once, and compare the fingerprint with the board's own",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "refuses this user's keys",
        "Run ssh-copy-id {name}, or add the key to ssh-agent: edgekit asks for no password",
    ),
)
_FULL = re.compile(r"No space left on device|Disk quota exceeded")


class RemoteError(EdgekitError):
    """The board cannot be reached, or cannot do what is asked of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command on the board ended.

    Attributes:
        code: its exit status.
        out: what it wrote to stdout.
        said: to stderr.
    """

    code: int
    out: bytes
    said: str


@dataclass(frozen=True, slots=True)
class Board:
    """Where to run.

    Attributes:
        name: ``user@host``, or a host of the user's ssh configuration.
        port: None for ssh's choice.
    """

    name: str
    port: int | None = None

    def run(
        self,
        script: str,
        *,
        send: Callable[[IO[bytes]], None] | None = None,
        tell: Callable[[str], object] | None = None,
    ) -> Answer:
        """Run a POSIX shell script there.

        Args:
            script: its text.
            send: writes its standard input.
            tell: gets each line of its stderr while it runs.

        Raises:
            RemoteError: there is no ssh client, it cannot connect, the connection is lost, or the
                board's disk is full.
        """
        program = shutil.which("ssh")
        if program is None:
            raise RemoteError(
                "no ssh client is installed", where="--remote", fix="Install openssh-client"
            )
        command = [
            program, "-T",
            "-o", "BatchMode=yes",  # never ask: neither for a password nor about a host key
            "-o", "ConnectTimeout=15",
            "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3",
            "-o", "ClearAllForwardings=yes",
            *([] if self.port is None else ["-p", str(self.port)]),
            # The login shell may be any; it only starts sh.
            "--", self.name, f"exec sh -c {shlex.quote(script)}",
        ]  # fmt: skip
        answer = _talk(command, send, tell)
        if answer.code == _LOST:
            raise self._unreachable(answer.said)
        if answer.code and _FULL.search(answer.said):
            raise RemoteError(
                "its disk is full", where=self.name, fix="Free some space under ~/.cache there"
            )
        return answer

    def _unreachable(self, said: str) -> RemoteError:
        for pattern, what, fix in _REASONS:
            if re.search(pattern, said):
                told = fix.format(name=self.name + (f" -p {self.port}" if self.port else ""))
                return RemoteError(what, where=self.name, fix=told)
        last = said.strip().rpartition("\n")[2].strip()
        return RemoteError(
            f"the connection was lost: {last or 'ssh did not say why'}",
            where=self.name,
            fix="Give the same command again: what was begun there goes on, and is fetched",
        )


def parse_board(text: str) -> Board:
    """The board of ``user@host``, ``user@host:port`` or ``host``; IPv6 as ``user@[::1]:22``.

    Raises:
        SpecError: it is not written so.
    """
    match = re.fullmatch(
        r"((?:[^@\s:\[\]-][^@\s:\[\]]*@)?)(?:\[([0-9A-Fa-f:.%\w]+)\]|([^@\s:\[\]-][^@\s:\[\]]*))"
        r"(?::(\d{1,5}))?",
        text,
    )
    port = int(match[4]) if match and match[4] else None
    if match is None or (port is not None and not 0 < port < 65536):
        raise SpecError(
            f"{text!r} is no board", where="--remote", fix="Write user@host or user@host:port"
        )
    return Board(f"{match[1]}{match[2] or match[3]}", port)


def _talk(
    command: list[str],
    send: Callable[[IO[bytes]], None] | None,
    tell: Callable[[str], object] | None,
) -> Answer:
    said = []
    with (
        tempfile.TemporaryFile() as out,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if send else subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        assert process.stderr is not None
        sender = _Sender(process.stdin, send)
        sender.start()
        try:
            for raw in process.stderr:
                line = raw.decode(errors="replace")
                said.append(line)
                if tell is not None:
                    tell(line)
        except BaseException:
            process.terminate()
            raise
        finally:
            sender.join()
        code = process.wait()
        out.seek(0)
        answer = Answer(code, out.read(), "".join(said))
    if sender.error is not None and code == 0:
        raise sender.error
    return answer


class _Sender(threading.Thread):
    """Writes the standard input of a process while another thread reads what it says.

    Attributes:
        error: what went wrong on this side.
    """

    def __init__(self, stream: IO[bytes] | None, send: Callable[[IO[bytes]], None] | None) -> None:
        super().__init__(name="edgekit-remote-send", daemon=True)
        self._stream = stream
        self._send = send
        self.error: OSError | None = None

    def run(self) -> None:
        if self._stream is None or self._send is None:
            return
        try:
            with self._stream:
                self._send(self._stream)
        except BrokenPipeError:
            return  # the other side ended: it says why
        except OSError as error:  # a file that cannot be read
            self.error = error
