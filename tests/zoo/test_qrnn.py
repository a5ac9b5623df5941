"""What is computed for all steps at once is what going step by step computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit import zoo
from edgekit.zoo._glosses import LONGEST, glosses
from edgekit.zoo.qrnn import linear_recurrence


@pytest.mark.parametrize("length", [1, 2, 7, LONGEST])
def test_the_scan_is_the_recurrence(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    keep, added = torch.rand(2, 3, length, 5, generator=generator)
    state, states = torch.zeros(3, 5), []
    for step in range(length):
        state = keep[:, step] * state + added[:, step]
        states.append(state)
    torch.testing.assert_close(linear_recurrence(keep, added), torch.stack(states, dim=1))


def test_what_is_filled_in_changes_nothing() -> None:
    model = zoo.load("qrnn-glosses").model
    words = torch.from_numpy(glosses().test_words[:20])
    with torch.no_grad():
        together = model(words)
        alone = torch.cat([model(row[row != 0][None]) for row in words])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


def test_no_gloss_is_both_learnt_from_and_held_out() -> None:
    data = glosses()
    learnt, held_out = (_texts(one) for one in (data.train_words, data.test_words))
    assert learnt.isdisjoint(held_out)


def _texts(table: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in table}
