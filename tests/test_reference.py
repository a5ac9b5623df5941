from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit import runtimes
from edgekit.reference import in_pieces
from edgekit.spec import Feeds, Outputs
from tests.conftest import batches


def test_a_batch_that_is_too_large_is_run_in_pieces_and_put_together(onnx_file: Path) -> None:
    feeds, sizes = next(batches()), []
    with runtimes.get("onnxruntime").load(onnx_file) as session:

        def counted(part: Feeds) -> Outputs:
            sizes.append(len(part["image"]))
            return session.run(part)

        got = in_pieces(counted, 3)(feeds)["logits"]
        np.testing.assert_allclose(got, session.run(feeds)["logits"], rtol=1e-4, atol=1e-5)
        assert sizes == [3, 3, 2]
        in_pieces(counted, 8)(feeds)
    assert sizes == [3, 3, 2, 8]
