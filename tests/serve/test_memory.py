"""That memory which was freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: 100 MB in small blocks, of which every hundredth stays, as of a burst of requests.
BURST = """
import psutil
from edgekit.serve.memory import keep_large_blocks_apart, trim
keep_large_blocks_apart()
taken = lambda: psutil.Process().memory_info().rss / 1e6
before = taken()
blocks = [bytes(2000) for _ in range(50_000)]
blocks = blocks[::100]
kept = taken() - before
trim()
print(kept, taken() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_what_a_burst_left_between_small_blocks_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=True)
    kept, left = map(float, done.stdout.split())
    assert kept > 50
    assert left < 10
