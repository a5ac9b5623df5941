"""The whole way, over a real ssh server where there is one, else with ``sh`` in its place."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
SKIP = (
    "no sshd here; apt-get install openssh-server"
    if SSHD is None
    else "sshd of root wants the folder /run/sshd"
    if os.geteuid() == 0 and not Path("/run/sshd").is_dir()
    else ""
)
LOCAL = '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nexec sh -c "$3"\n'


@dataclass(frozen=True)
class Lab:
    """A "board": this machine under another cache folder.

    Attributes:
        cache: ``~/.cache`` there.
        address: what ``--remote`` is given.
        folder: of the ssh client, to be put on PATH.
        server: the ssh server, None where there is none.
    """

    cache: Path
    address: str
    folder: Path
    server: subprocess.Popen[bytes] | None = None

    def profile(self, bundle: Path, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(bundle, *options),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, bundle: Path, *options: str) -> list[str]:
        own = [sys.executable, "-m", "edgekit", "profile", str(bundle), "--remote", self.address]
        return [*own, "--runtime=onnxruntime", "--no-costs", "--seconds=0.1", *options]

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.folder}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(self.cache)}

    def kept(self, kind: str) -> list[Path]:
        return sorted((self.cache / "edgekit/remote").glob(f"{kind}-*"))


def _program(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


@pytest.fixture(scope="module")
def by_sh(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("board")
    _program(folder / "bin/ssh", LOCAL)
    return Lab(folder / "cache", "pi@board", folder / "bin")


@pytest.fixture(scope="module")
def by_ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An ssh server of our own: own keys, own port, this user."""
    if SKIP:
        pytest.skip(SKIP)
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"PasswordAuthentication no\nSetEnv XDG_CACHE_HOME={folder}/cache\n"
    )
    (folder / "config").write_text(
        f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
        "GlobalKnownHostsFile none\n"
    )
    client = shutil.which("ssh")
    _program(folder / "bin/ssh", f'#!/bin/sh\nexec {client} -F {folder}/config "$@"\n')
    server = subprocess.Popen(
        [str(SSHD), "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
    )
    try:
        _wait(lambda: "listening" in (folder / "log").read_text().lower())
        address = f"{getpass.getuser()}@127.0.0.1:{port}"
        yield Lab(folder / "cache", address, folder / "bin", server)
    finally:
        server.terminate()
        server.wait()


def _wait(condition: object, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError("did not happen")


PREPARED = f"--remote-python={sys.executable}"


@pytest.mark.parametrize("lab", ["by_sh", "by_ssh"])
def test_the_profile_of_a_board_comes_back_with_its_name(
    lab: str, bundle_copy: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    board: Lab = request.getfixturevalue(lab)
    out = tmp_path / "out.json"
    done = board.profile(bundle_copy, PREPARED, "--threads=1", f"-o{out}")
    assert done.returncode == 0, done.stderr
    name = board.address.partition(":")[0]
    assert done.stdout.startswith(f"remote: {name}, ")
    stored = json.loads(out.read_bytes())
    assert stored["remote"] == name
    assert {result["samples"]["artifact"] for result in stored["results"]} == {
        "onnxruntime-fp32", "onnxruntime-int8",
    }  # fmt: skip
    assert {result["settings"]["threads"] for result in stored["results"]} == {1}
    assert f"Install edgekit on {name}" in done.stderr
    assert not board.kept("run")  # it was fetched
    again = board.profile(bundle_copy, PREPARED)
    assert again.returncode == 0, again.stderr
    assert "Install" not in again.stderr  # nor is anything copied a second time
    assert "Copy" not in again.stderr


def test_a_virtual_environment_is_made_where_none_is_prepared(
    by_sh: Lab, tmp_path: Path, bundle_copy: Path
) -> None:
    """Without a network, in a folder of wheels that lacks all but edgekit."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "nothing-1-py3-none-any.whl").write_bytes(b"")
    bare = tmp_path / "python"
    base = Path(sys.base_prefix) / "bin" / Path(sys.executable).resolve().name
    _program(bare, f'#!/bin/sh\nexec env -u PYTHONPATH {base} "$@"\n')
    done = by_sh.profile(bundle_copy, f"--remote-python={bare}", f"--remote-wheels={wheels}")
    assert done.returncode == 2, done.stdout + done.stderr
    last = done.stderr.strip().rpartition("\n")[2]
    assert re.search(r"pi@board: edgekit cannot be installed: .*(distribution|requirement)", last)
    assert last.endswith("Add what is missing to the folder of --remote-wheels.")


def test_a_python_that_is_too_old_is_told_by_its_version(
    by_sh: Lab, tmp_path: Path, bundle_copy: Path
) -> None:
    facts = {"path": "/usr/bin/python3", "version": [3, 8], "full": "3.8.10", "machine": "aarch64"}
    old = tmp_path / "python3"
    _program(old, f"#!/bin/sh\necho '{json.dumps({**facts, 'missing': [], 'gpu': False})}'\n")
    done = by_sh.profile(bundle_copy, f"--remote-python={old}")
    assert done.returncode == 2
    assert "pi@board: needs Python 3.11 or newer: /usr/bin/python3 is 3.8.10." in done.stderr


def test_an_error_on_the_board_is_told_with_its_name(by_sh: Lab, bundle_copy: Path) -> None:
    done = by_sh.profile(bundle_copy, PREPARED, "--size=nothing=3")
    assert done.returncode == 2
    assert "edgekit: pi@board: --size: no input has a dynamic dimension 'nothing'" in done.stderr
    assert not by_sh.kept("run")  # the same command tries again


def test_limits_hold_on_the_board(by_sh: Lab, bundle_copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = by_sh.profile(bundle_copy, PREPARED, "--limit=cores=1", f"-o{out}")
    assert done.returncode == 0, done.stderr
    stored = json.loads(out.read_bytes())
    assert stored["simulated"]["cores"] == 1
    assert stored["remote"] == "pi@board"


def test_a_run_outlives_its_connection_and_is_fetched_by_the_same_command(
    by_ssh: Lab, bundle_copy: Path
) -> None:
    options = (PREPARED, "--seconds=4")
    first = subprocess.Popen(
        by_ssh.command(bundle_copy, *options),
        env=by_ssh.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait(lambda: any((run / "pid").is_file() for run in by_ssh.kept("run")))
    assert by_ssh.server is not None
    for child in psutil.Process(by_ssh.server.pid).children():
        child.kill()  # the server's end of the connection
    _, said = first.communicate()
    assert first.returncode == 2
    assert "the connection was lost: " in said
    [run] = by_ssh.kept("run")
    begun = (run / "pid").read_text()
    second = by_ssh.profile(bundle_copy, *options, "--json")
    assert second.returncode == 0, second.stderr
    assert "Go on with what was begun there before" in second.stderr
    assert json.loads(second.stdout)["remote"]
    assert begun
    assert not by_ssh.kept("run")


def test_a_place_where_nothing_can_be_written_is_known_before_the_board_is_asked(
    by_sh: Lab, bundle_copy: Path, tmp_path: Path
) -> None:
    done = by_sh.profile(bundle_copy, PREPARED, "--threads=2", f"-o{tmp_path}/none/out.json")
    assert done.returncode == 2
    assert "none" in done.stderr
    assert not by_sh.kept("run")


def test_keys_and_host_keys_are_refused_in_one_line(by_ssh: Lab, bundle_copy: Path) -> None:
    host, _, port = by_ssh.address.rpartition(":")
    known = by_ssh.folder.parent / "known"
    right = known.read_text()
    known.write_text("")
    try:
        done = by_ssh.profile(bundle_copy, PREPARED)
    finally:
        known.write_text(right)
    assert done.returncode == 2
    assert f"edgekit: {host}: its host key is unknown or has changed." in done.stderr
    authorized = by_ssh.folder.parent / "authorized"
    right = authorized.read_text()
    authorized.write_text("")
    try:
        done = by_ssh.profile(bundle_copy, PREPARED)
    finally:
        authorized.write_text(right)
    assert done.returncode == 2
    assert f"{host}: refuses this user's keys. Run ssh-copy-id {host} -p {port}" in done.stderr
