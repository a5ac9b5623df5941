"""``zoo:qrnn-glosses`` and ``zoo:sru-mnist``: recurrent networks without products between steps.

All matrix products are done for all steps at once; from step to step only elementwise work is
left.

- QRNN (Bradbury et al., "Quasi-Recurrent Neural Networks", 2017): a causal convolution of width 2
  makes candidates and gates, and fo-pooling joins them. Its recurrence is linear in the state, so
  it is computed for all steps in five rounds, the parallel scan of Hillis and Steele (1986): the
  exported graph takes any length, and reaches 32 words back.
- SRU (Lei et al., "Simple Recurrent Units for Highly Parallelizable Recurrence", 2018): its gates
  see the last state, through a weight for each channel. So its 28 steps stand one behind the other
  in the exported graph, whose length is fixed.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from edgekit.zoo._classification import Classifier
from edgekit.zoo._entry import Made
from edgekit.zoo._glosses import FIELDS, LONGEST, VOCABULARY, gloss_classifier
from edgekit.zoo._mnist import augment, mnist

__all__ = ["ENTRIES", "Qrnn", "Sru", "linear_recurrence"]


class Qrnn(nn.Module):
    """One layer: x (n, words, inputs), and which words are real (n, words, 1), to (n, words, size).

    Words that are filled in leave the state as it is.
    """

    def __init__(self, inputs: int, size: int, zoneout: float = 0.1) -> None:
        super().__init__()
        self.now = nn.Linear(inputs, 3 * size)
        self.before = nn.Linear(inputs, 3 * size, bias=False)
        self.zoneout = nn.Dropout(zoneout)

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        mixed = self.now(x) + _shifted(self.before(x), 1, 0.0)
        candidate, forget, output = mixed.chunk(3, dim=-1)
        forget = torch.sigmoid(forget)
        if self.training:  # some channels keep their state (section 2.1, regularization)
            forget = 1 - self.zoneout(1 - forget) * (1 - self.zoneout.p)
        added = (1 - forget) * torch.tanh(candidate) * real
        states = linear_recurrence(torch.where(real > 0, forget, 1.0), added)
        return torch.sigmoid(output) * states


def linear_recurrence(keep: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """``c[t] = keep[t] * c[t - 1] + added[t]`` along axis 1, reaching ``LONGEST`` steps back.

    After a round of reach r, ``added[t]`` is what the last r steps up to t add up to, and
    ``keep[t]`` what is left after them of what was before.
    """
    for done in range(math.ceil(math.log2(LONGEST))):
        reach = 2**done
        added = added + keep * _shifted(added, reach, 0.0)
        keep = keep * _shifted(keep, reach, 1.0)
    return added


def _shifted(x: torch.Tensor, steps: int, first: float) -> torch.Tensor:
    return functional.pad(x, (0, 0, steps, 0), value=first)[:, : x.shape[1]]


class _GlossReader(nn.Module):
    """Words (n, words), int64, to the scores of ten fields (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 32)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.layers = nn.ModuleList([Qrnn(32, 64), Qrnn(64, 64)])
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(64, len(FIELDS))

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        real = (words != 0).unsqueeze(-1).float()
        if self.training:  # one word in ten is an unknown one
            unknown = (torch.rand(words.shape, device=words.device) < 0.1) & (words > 0)
            words = words.masked_fill(unknown, 1)
        states = self.dropout(self.embed(words))
        for layer in self.layers:
            states = layer(states, real)
        most = torch.where(real > 0, states, -1.0).amax(dim=1)
        logits: torch.Tensor = self.head(self.dropout(most))
        return logits


class Sru(nn.Module):
    """One layer: (n, steps, size) to the same shape; the steps are unrolled."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mix = nn.Linear(size, 3 * size)
        self.state_to_gates = nn.Parameter(torch.zeros(2, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        candidates, forgets, resets = self.mix(x).chunk(3, dim=-1)
        to_forget, to_reset = self.state_to_gates.unbind()
        state = torch.zeros_like(x[:, 0])
        outputs = []
        for step in range(x.shape[1]):
            forget = torch.sigmoid(forgets[:, step] + to_forget * state)
            reset = torch.sigmoid(resets[:, step] + to_reset * state)
            state = forget * state + (1 - forget) * candidates[:, step]
            # The factor keeps the variance of what passes by the layer (section 3.2).
            outputs.append(reset * state + (1 - reset) * x[:, step] * math.sqrt(3))
        return torch.stack(outputs, dim=1)


class _RowReader(nn.Module):
    """Images (n, 1, 28, 28), float32 in [0, 1], row by row to the scores of ten digits."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = nn.Linear(28, 96)
        self.layers = nn.Sequential(Sru(96), Sru(96))
        self.head = nn.Linear(96, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        states = self.layers(self.widen(image.squeeze(1)))
        logits: torch.Tensor = self.head(states[:, -1])
        return logits


_QRNN: Made = Made(
    name="qrnn-glosses",
    family="recurrent",
    description="Two QRNN layers that tell a noun's field from its definition, of any length.",
    build=_GlossReader,
    make=lambda model: gloss_classifier(_QRNN.name, model, _QRNN.description),
    epochs=8,
    rate=1e-2,
    bar=0.77,
    source="logistic regression on the counts of the same words, same split: 0.770",
)
_SRU = Classifier(
    name="sru-mnist",
    family="recurrent",
    description="Two SRU layers of 96 units over the 28 rows of MNIST's digits.",
    input_name="image",
    build=_RowReader,
    load_data=mnist,
    augment=augment,
    epochs=20,
    rate=4e-3,
    bar=0.95,
    source="a support vector machine (RBF) on whole digits of the same split: 0.947",
)
ENTRIES = (_QRNN, _SRU)
