"""One run on a board: begun once, followed, fetched; it goes on there when the connection ends."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.profile.elsewhere import Brought, Ended, Teller, read_profile
from edgekit.profile.remote.parts import Part, choose, extras_of
from edgekit.profile.remote.place import BASE, look, place_bundle, place_edgekit
from edgekit.profile.remote.ssh import Board, RemoteError, parse_board
from edgekit.profile.remote.wheel import build_wheel

__all__ = ["profiled_remotely"]

#: Starts the run unless it was started before, tells what it says until it ends, and prints its
#: exit status and its document. A run whose machine was switched off, or that ended more than a
#: day ago, is begun anew.
_FOLLOW = """
run="$base/run-{key}"
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown)
alive() {{
  [ "$(cat "$run/boot" 2>/dev/null)" = "$boot" ] && kill -0 "$(cat "$run/pid")" 2>/dev/null
}}
[ -f "$run/code" ] || alive || rm -rf "$run"
find "$run/code" -mtime +0 -exec rm -rf "$run" \\; 2>/dev/null
if [ -d "$run" ]; then
  echo "Go on with what was begun there before" >&2
else
  mkdir -p "$run" && : > "$run/err" && echo "$boot" > "$run/boot" || exit 1
  export run base
  setsid=$(command -v setsid)
  nohup $setsid sh -c {work} </dev/null >/dev/null 2>&1 &
  echo $! > "$run/pid"
fi
seen=0
while :; do
  ended=; if [ -f "$run/code" ] || ! alive; then ended=1; fi
  size=$(wc -c < "$run/err"); size=$((size))
  if [ "$size" -gt "$seen" ]; then
    tail -c +$((seen + 1)) "$run/err" | head -c $((size - seen)) >&2; seen=$size
  fi
  [ -z "$ended" ] || break
  sleep 0.3 2>/dev/null || sleep 1
done
cat "$run/code" 2>/dev/null || echo 137
cat "$run/profile.json" 2>/dev/null
exit 0
"""
_WORK = """
exec 2>"$run/err"
{python} -P -m edgekit profile {bundle} {arguments} --output "$run/profile.json" >/dev/null
echo $? > "$run/code.new"; mv "$run/code.new" "$run/code"
"""


@contextmanager
def profiled_remotely(
    bundle: Bundle,
    board: str,
    arguments: Sequence[str],
    *,
    runtime: str | None = None,
    artifact: str | None = None,
    python: str | None = None,
    wheels: Path | None = None,
) -> Iterator[Brought]:
    """The profile of a bundle on a board. It is kept there until the block ends without an error.

    The same call again, after the connection was lost or this process was killed, fetches what the
    first one began.

    Args:
        bundle: to profile.
        board: ``user@host`` or ``user@host:port``.
        arguments: options of ``edgekit profile``.
        runtime: send only the artifacts of this runtime.
        artifact: send only the one of this id.
        python: the interpreter to use there.
        wheels: folder with wheels of what edgekit needs, for a board without a network.

    Raises:
        RemoteError: the board cannot be reached, or edgekit cannot be installed there.
        RuntimeUnavailableError: the bundle has nothing for that board.
        EdgekitError: what came from there cannot be read.
    """
    place = parse_board(board)
    tell = sys.stderr.write
    wheel = build_wheel()
    found = look(place, wheel, python)
    chosen = choose(bundle, runtime=runtime, artifact=artifact, gpu=found.gpu, board=place.name)
    start = place_edgekit(
        place, found, wheel, extras_of(chosen), named=python is not None, wheels=wheels, tell=tell
    )
    part = Part.of(bundle, chosen)
    there = place_bundle(place, part, tell)
    key = sha256(repr((start.key, part.digest, list(arguments))).encode()).hexdigest()[:16]
    work = _WORK.format(python=start.start, bundle=there, arguments=shlex.join(arguments))
    yield _follow(place, key, work)
    place.run(f'{BASE}rm -rf "$base/run-{key}"')


def _follow(board: Board, key: str, work: str) -> Brought:
    script = BASE + _FOLLOW.format(key=key, work=shlex.quote(work))
    answer = board.run(script, tell=Teller())
    status, _, document = answer.out.partition(b"\n")
    if answer.code or not status.strip().isdigit():
        last = answer.said.strip().rpartition("\n")[2]
        raise RemoteError(
            f"cannot run edgekit there: {last}", where=board.name, fix="Look at ~/.cache there"
        )
    ended = Ended(int(status), answer.said)
    error = None
    if ended.code:
        error = EdgekitError(ended.error.what, where=board.name)
        error.exit_code = ended.error.exit_code
    if document:
        profile = read_profile(text=document, where=board.name)
        return Brought(profile.model_copy(update={"remote": board.name}), error)
    return Brought(None, error or EdgekitError("wrote no profile", where=board.name))
