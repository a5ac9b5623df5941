from __future__ import annotations

import torch

from edgekit.zoo import hierarchical
from edgekit.zoo._documents import FIELDS, documents, texts


@torch.no_grad()
def test_a_document_that_is_filled_up_farther_scores_the_same() -> None:
    model = hierarchical.workload().model
    words = torch.from_numpy(documents().test_words[:8])
    farther = torch.nn.functional.pad(words, (0, 5, 0, 3))
    torch.testing.assert_close(model(farther), model(words), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_direction_back_reads_as_pytorchs_packed_sequences_do() -> None:
    torch.manual_seed(0)
    level = hierarchical._Level(6, 8)
    x, lengths = torch.randn(3, 5, 6), torch.tensor([5, 3, 1])
    real = torch.arange(5) < lengths[:, None]
    turned = hierarchical._turned(real)
    back = hierarchical._at(level.back(hierarchical._at(x, turned))[0], turned)
    for row, length in enumerate(lengths.tolist()):
        alone = level.back(x[row : row + 1, :length].flip(1))[0].flip(1)
        torch.testing.assert_close(back[row : row + 1, :length], alone)


def test_no_definition_is_in_two_documents_and_all_fields_are_there() -> None:
    told = [sentence for document, _ in texts() for sentence in document]
    assert len(set(told)) > 0.97 * len(told)  # some terms are defined alike
    assert {field for _, field in texts()} == set(range(len(FIELDS)))
