"""A killed process leaves either the old bundle or the new one."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.verify import verify_bundle
from tests.e2e.test_cli import USER

COMPRESS = ["edgekit", "compress", "user.py:good", "-o", "x.edge", "--seconds", "0.1"]
#: What takes most of its time to import. Nothing can break there, so each process begins after it.
IMPORTED = [
    "edgekit.pipeline", "edgekit.cli._build", "edgekit.exporters.torch_onnx", "openvino",
    "torch.export._trace", "torch.onnx",
]  # fmt: skip


def _compress(folder: Path) -> None:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os.chdir(folder)
    sys.argv = COMPRESS
    main()


@pytest.mark.slow
def test_kill_at_20_random_moments_leaves_a_bundle_that_verifies(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(IMPORTED)
    for _ in range(2):  # the second run finds warm file caches, as those after it do
        start = time.monotonic()
        process = processes.Process(target=_compress, args=(tmp_path,))
        process.start()
        process.join()
        assert process.exitcode == 0
        duration = time.monotonic() - start
    first = Bundle.open(tmp_path / "x.edge").manifest.created
    moments = random.Random(0)
    killed = 0
    for _ in range(20):
        process = processes.Process(target=_compress, args=(tmp_path,))
        process.start()
        process.join(moments.uniform(0.0, 1.05 * duration))
        if process.is_alive():
            process.kill()
            process.join()
            killed += 1
        records = verify_bundle(Bundle.open(tmp_path / "x.edge"))
        assert records
        assert all(record.passed for record in records)
    assert killed >= 5
    subprocess.run([sys.executable, "-m", *COMPRESS], cwd=tmp_path, check=True, capture_output=True)
    assert Bundle.open(tmp_path / "x.edge").manifest.created > first
    leftovers = [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".x.edge")]
    assert leftovers == []  # the next run cleaned up after the killed ones
    verify = [sys.executable, "-m", "edgekit", "verify", "x.edge"]
    subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.slow
def test_kill_while_folders_are_exchanged_leaves_a_whole_one(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from edgekit import atomic
atomic._flush = lambda folder: None
print("ready", flush=True)
for count in range(10**9):
    with atomic.replaced_folder(Path("x"), expect="marker") as folder:
        for part in ("a", "b", "marker"):
            (folder / part).write_text(str(count))
"""
    moments = random.Random(1)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + moments.uniform(0.0, 0.05))
            process.kill()
        texts = {(tmp_path / "x" / part).read_text() for part in ("a", "b", "marker")}
        assert len(texts) == 1
