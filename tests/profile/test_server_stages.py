"""Stages as a real server tells them, and what the diagnosis makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.client import Client
from edgekit.profile.diagnosis import diagnose
from edgekit.profile.server_stages import server_stages
from edgekit.serve.statistics import STAGES
from tests.conftest import SHAPE
from tests.daemon import running
from tests.report.documents import profile, result


def test_tensors_as_json_are_found_to_take_the_time(built: Path) -> None:
    """A batch of 64 pictures as JSON takes longer to read than to compute."""
    feeds = {"image": np.random.default_rng(0).random((64, *SHAPE), np.float32)}
    with running(built) as (url, _):
        assert server_stages(url, "nobody") == {}
        with Client(url) as client:
            for _ in range(5):
                client.infer("residual", feeds, binary=False)
        found = server_stages(url, "residual")
    assert set(found) == set(STAGES)
    assert found["parse"] > 0
    kinds = {finding.kind for finding in diagnose(profile(result(stages=found)))}
    assert "serialisation-bound" in kinds


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:1/path/"])
def test_who_does_not_tell_has_no_stages(url: str) -> None:
    assert server_stages(url, "residual") == {}
