"""What a killed run leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.errors import OutputError
from edgekit.machine import this_machine
from edgekit.profile import growing
from edgekit.profile.growing import GrowingFile
from edgekit.profile.journal import Journal, document_of, journal_of, journals, unfinished
from edgekit.profile.records import Settings
from edgekit.profile.samples import Conditions, Samples

POINTS = ["a", "b"]


def one_round(number: int, run: str = "r") -> list[Samples]:
    return [
        Samples(
            artifact=name,
            runtime="onnxruntime",
            run=run,
            shapes={"x": (1, 2)},
            threads=1,
            warmup=1,
            block=2,
            latencies_ns=(number, number + 1),
            starts_ns=(10 * number, 10 * number + 5),
            machine=this_machine(),
            started="now",
        )
        for name in POINTS
    ]


def filled(path: Path, rounds: int) -> Path:
    with Journal(path, {"x": 1}) as journal:
        watch = journal.watch(POINTS)
        for number in range(rounds):
            watch(one_round(number))
    return path


def test_rounds_are_there_for_the_next_process(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 3)
    with Journal(path, {"x": 1}) as journal:
        before = journal.before("b")
        assert journal.resumed
        assert journal.count == 12
    assert before.rounds == 3
    assert not before.ended
    assert before.samples[0].latencies_ns == (0, 1, 1, 2, 2, 3)
    assert before.samples[0].starts_ns == (0, 5, 10, 15, 20, 25)


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 3)
    path.write_bytes(path.read_bytes()[:-7])
    with Journal(path, {"x": 1}) as journal:
        assert journal.before("a").rounds == 2
        journal.watch(POINTS)(one_round(7))
    with Journal(path, {"x": 1}) as journal:
        assert journal.before("a").samples[0].latencies_ns == (0, 1, 1, 2, 7, 8)


def test_a_journal_of_something_else_is_begun_anew(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 3)
    with Journal(path, {"x": 2}) as journal:
        assert not journal.resumed
        assert journal.before("a").samples == []


def test_samples_say_which_run_they_are_from(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 2)
    with Journal(path, {"x": 1}) as journal:
        journal.watch(POINTS)(one_round(5, run="s"))
        found = [(one.run, len(one.latencies_ns)) for one in journal.before("a").samples]
    assert found == [("r", 4), ("s", 2)]


def test_the_end_of_a_run_adds_what_is_known_then(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 2)
    told = Conditions(steal=0.5)
    with Journal(path, {"x": 1}) as journal:
        journal.end([one.model_copy(update={"conditions": told}) for one in one_round(0)])
    with Journal(path, {"x": 1}) as journal:
        before = journal.before("a")
    assert before.ended
    assert before.samples[0].conditions == told
    assert before.samples[0].latencies_ns == (0, 1, 1, 2)


def test_a_piece_is_measured_once(tmp_path: Path) -> None:
    path = tmp_path / "p.partial.jsonl"
    made = []

    def make() -> Settings:
        made.append(1)
        return Settings(threads=3)

    for _ in range(2):
        with Journal(path, {}) as journal:
            assert journal.piece("costs a", Settings, make) == Settings(threads=3)
    assert made == [1]


def test_the_journal_of_the_same_run_is_found_unless_someone_writes_it(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 1)
    filled(tmp_path / "q.partial.jsonl", 1).write_text("{}\n")
    assert unfinished(journals(tmp_path), {"x": 1}) == path
    assert unfinished(journals(tmp_path), {"x": 2}) is None
    with Journal(path, {"x": 1}):
        assert unfinished(journals(tmp_path), {"x": 1}) is None
        with pytest.raises(OutputError, match="written by another process"):
            Journal(path, {"x": 1})


def test_it_lies_beside_the_document() -> None:
    assert journal_of(Path("f/2026.5Z.json")) == Path("f/2026.5Z.partial.jsonl")
    assert document_of(Path("f/2026.5Z.partial.jsonl")) == Path("f/2026.5Z.json")


def test_what_is_done_leaves_no_journal(tmp_path: Path) -> None:
    path = filled(tmp_path / "p.partial.jsonl", 1)
    Journal(path, {"x": 1}).close(done=True)
    assert not path.exists()


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        Journal(tmp_path / "missing" / "p.partial.jsonl", {})


LIMITED = """
import resource, sys
from pathlib import Path
from edgekit.profile.growing import GrowingFile
file = GrowingFile(Path(sys.argv[1]))
file.begin("header\\n", anew=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for number in range(200):
    file.append(f"line {number} " + "." * 20)
file.close()
print(file.aside)
"""


def test_a_file_that_cannot_grow_goes_on_elsewhere_and_loses_no_line(tmp_path: Path) -> None:
    """The limit holds for every file of the process, so that the second fills up, too."""
    path = tmp_path / "p.partial.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    aside = Path(done.stdout.strip())
    lines = (path.read_text() + aside.read_text()).splitlines()
    assert lines[0] == "header"
    assert [line.split()[1] for line in lines[1:]] == [str(n) for n in range(len(lines) - 1)]
    assert len(lines) > 200


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for little."""
    place = tmp_path / "disk"
    place.mkdir()
    mount, umount = (str(shutil.which(name)) for name in ("mount", "umount"))
    command = [mount, "-t", "tmpfs", "-o", "size=1280k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts file systems")
    yield place
    subprocess.run([umount, str(place)], check=True)


def test_a_disk_that_fills_up_loses_no_line(small_disk: Path) -> None:
    file = GrowingFile(small_disk / "p.partial.jsonl")
    file.begin("header\n", anew=True)
    for number in range(300):
        file.append(f"{number} " + "." * 10_000)
    file.close()
    assert file.aside is not None
    assert "No space left" in file.trouble
    lines = (file.path.read_text() + file.aside.read_text()).splitlines()
    assert [line.split()[0] for line in lines[1:]] == [str(n) for n in range(300)]


@pytest.mark.parametrize("written", [0, 3, None])
def test_ctrl_c_in_the_middle_of_a_line_neither_loses_nor_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    file = GrowingFile(tmp_path / "p.partial.jsonl")
    file.begin("header\n", anew=True)
    file.append("first")
    write = os.write

    def interrupted(descriptor: int, data: memoryview) -> int:
        write(descriptor, data[:written])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(growing.os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.append("second")
    file.flush()
    file.append("third")
    file.close()
    assert not file.held
    assert file.path.read_text() == "header\nfirst\nsecond\nthird\n"


def test_a_disk_without_room_is_told_before_anything_is_measured(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(b"x" * (1 << 20))
    with pytest.raises(OutputError, match="no room for samples"):
        Journal(small_disk / "p.partial.jsonl", {})


KILLED = """
import sys
from collections.abc import Iterator
from pathlib import Path
from edgekit.profile.journal import Journal
from tests.profile.test_journal import POINTS, one_round
journal = Journal(Path(sys.argv[1]), {"x": 1})
watch = journal.watch(POINTS)
for number in range(10**9):
    watch(one_round(number))
    if number == 100:
        print("there", flush=True)
"""


def test_a_killed_process_leaves_whole_rounds(tmp_path: Path) -> None:
    path = tmp_path / "p.partial.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Journal(path, {"x": 1}) as journal:
        values = journal.before("b").samples[0].latencies_ns
    assert len(values) >= 202
    assert values == tuple(v for n in range(len(values) // 2) for v in (n, n + 1))
