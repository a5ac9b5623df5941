from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import EdgekitError, SpecError
from edgekit.profile.remote.ssh import Board, RemoteError, parse_board


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``ssh`` that runs the command here: the place of a board in tests of what it is told."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nexec sh -c "$3"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return program


@pytest.mark.parametrize(
    ("text", "board"),
    [
        ("pi@raspberry", Board("pi@raspberry")),
        ("pi@10.0.0.7:2222", Board("pi@10.0.0.7", 2222)),
        ("jetson", Board("jetson")),
        ("pi@[fe80::1%eth0]:22", Board("pi@fe80::1%eth0", 22)),
        ("first.last@board-2.local", Board("first.last@board-2.local")),
    ],
)
def test_boards_are_written_as_for_ssh(text: str, board: Board) -> None:
    assert parse_board(text) == board


@pytest.mark.parametrize(
    "text", ["", "@host", "pi@", "-oProxyCommand=touch x", "pi@-x", "pi@host:0", "pi@host:99999",
             "pi@host; reboot", "a b", "pi@fe80::1"],
)  # fmt: skip
def test_what_is_no_board_is_refused_before_ssh_sees_it(text: str) -> None:
    with pytest.raises(SpecError, match="is no board"):
        parse_board(text)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "ssh: Could not resolve hostname pi: Name or service not known",
            "pi@b: no such host. Check the name",
        ),
        (
            "ssh: connect to host b port 22: Connection refused",
            "pi@b: cannot be reached. Check that it is on",
        ),
        ("ssh: connect to host b port 22: No route to host", "pi@b: cannot be reached"),
        ("pi@b: Permission denied (publickey).", "pi@b: refuses this user's keys. Run ssh-copy-id"),
        ("Host key verification failed.", "its host key is unknown or has changed. Run ssh pi@b"),
        (
            "client_loop: send disconnect: Broken pipe",
            "pi@b: the connection was lost: client_loop: send disconnect: Broken pipe. Give",
        ),
    ],
)
def test_what_openssh_says_is_told_in_one_line(ssh: Path, said: str, told: str) -> None:
    ssh.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 255\n")
    with pytest.raises(RemoteError) as caught:
        Board("pi@b").run("true")
    assert told in str(caught.value)


def test_a_machine_without_ssh_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RemoteError, match=r"no ssh client is installed\. Install openssh-client"):
        Board("pi@b").run("true")


def test_ssh_never_asks_and_checks_host_keys_as_the_user_does(ssh: Path) -> None:
    ssh.write_text('#!/bin/sh\necho "$@"\n')
    told = Board("pi@b", 2222).run("true").out.decode()
    assert "BatchMode=yes" in told
    assert "-p 2222 -- pi@b exec sh -c true" in told
    assert "StrictHostKeyChecking" not in told


@pytest.mark.usefixtures("ssh")
def test_a_script_gets_its_input_and_says_what_it_does() -> None:
    said: list[str] = []
    answer = Board("b").run(
        "cat; echo 'it'\"'\"'s done' >&2; exit 3",
        send=lambda stream: stream.write(b"x" * 1_000_000) and None,
        tell=said.append,
    )
    assert (answer.code, len(answer.out)) == (3, 1_000_000)
    assert said == ["it's done\n"]


@pytest.mark.usefixtures("ssh")
def test_a_script_that_ends_before_it_read_all_says_why_itself() -> None:
    answer = Board("b").run("exit 4", send=lambda stream: stream.write(b"x" * 10_000_000) and None)
    assert answer.code == 4


@pytest.mark.usefixtures("ssh")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(EdgekitError, match=r"^b: its disk is full\. Free some space"):
        Board("b").run("echo 'tar: x: Cannot write: No space left on device' >&2; exit 2")
