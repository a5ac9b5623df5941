"""Characters of many scripts, drawn anew each time, and the episodes of few-shot learning.

It is Omniglot in miniature (Lake et al., 2015): the letters of DejaVu's fonts, each bent, turned,
scaled and noisy. The scripts that learners are judged on are others than those they learn from, as
in Omniglot's own split. No letter that looks the same in both is judged.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional

from edgekit.spec import Array

__all__ = ["SIDE", "Episode", "drawn", "episode", "held_out", "seen", "unseen"]

#: Height and width of an image.
SIDE = 28
_SEEN = (
    "LATIN", "GREEK", "COPTIC", "CYRILLIC", "CANADIAN", "LAO", "LISU", "OLD ITALIC", "OGHAM",
)  # fmt: skip
_UNSEEN = ("ARMENIAN", "GEORGIAN", "HEBREW", "NKO", "TIFINAGH")
_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif")
_FONT_SIZE, _CANVAS, _LETTER, _PICTURE = 48, 128, 22, 32
_NO_LETTER = "\U0010ffff"
_EPISODES = 200


@dataclass(frozen=True, slots=True)
class Episode:
    """A task of characters that a learner sees for the first time.

    Attributes:
        support: drawings with known classes, float32 in [0, 1], (ways, shots, 1, 28, 28).
        query: drawings to classify, (ways * queries, 1, 28, 28).
        label: the row of ``support`` that each of these belongs to, int64.
    """

    support: torch.Tensor
    query: torch.Tensor
    label: torch.Tensor


def seen() -> torch.Tensor:
    """The characters to learn from, a printed picture a font: (classes, fonts, 32, 32)."""
    return _pictures()[0]


def unseen() -> torch.Tensor:
    """The same of the scripts to be judged on."""
    return _pictures()[1]


def drawn(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures (n, 32, 32) drawn anew by an unsteady hand: (n, 1, 28, 28)."""
    count = len(pictures)
    angle, wide, high, shear, dx, dy, ink = (
        torch.rand(7, count, generator=generator) * 2 - 1
    ).unbind()
    cos, sin = torch.cos(angle * 0.3), torch.sin(angle * 0.3)
    wide, high, shear = 1 + wide * 0.2, 1 + high * 0.2, shear * 0.25
    rows = [
        torch.stack([cos * wide, (shear * cos - sin) * high, dx * 0.15], 1),
        torch.stack([sin * wide, (shear * sin + cos) * high, dy * 0.15], 1),
    ]
    shape = [count, 1, SIDE, SIDE]
    grid = functional.affine_grid(torch.stack(rows, 1), shape, align_corners=False)
    bends = torch.randn(count, 2, 5, 5, generator=generator) * 0.08
    bends = functional.interpolate(bends, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    drawing = functional.grid_sample(
        pictures[:, None], grid + bends.permute(0, 2, 3, 1), align_corners=False
    )
    noise = torch.randn(shape, generator=generator) * 0.1
    return (drawing * (0.8 + 0.2 * ink[:, None, None, None]) + noise).clamp(0, 1)


def episode(
    pictures: torch.Tensor, ways: int, shots: int, queries: int, generator: torch.Generator
) -> Episode:
    """An episode of ``ways`` characters, with ``queries`` drawings of each to classify."""
    chosen = torch.randperm(len(pictures), generator=generator)[:ways]
    each = shots + queries
    fonts = torch.randint(pictures.shape[1], (ways, each), generator=generator)
    drawings = drawn(pictures[chosen[:, None], fonts].flatten(0, 1), generator)
    drawings = drawings.unflatten(0, (ways, each))
    label = torch.arange(ways).repeat_interleave(queries)
    return Episode(drawings[:, :shots].contiguous(), drawings[:, shots:].flatten(0, 1), label)


@cache
def held_out(ways: int = 5, shots: int = 5, queries: int = 5) -> Sequence[Episode]:
    """200 episodes of characters that no learner has seen."""
    generator = torch.Generator().manual_seed(0)
    return [episode(unseen(), ways, shots, queries, generator) for _ in range(_EPISODES)]


@cache
def _pictures() -> tuple[torch.Tensor, torch.Tensor]:
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    fonts = [
        ImageFont.truetype(folder / f"{name}.ttf", _FONT_SIZE, layout_engine=ImageFont.Layout.BASIC)
        for name in _FONTS
    ]
    known: set[bytes] = set()  # A is a letter of three scripts
    return _all(_SEEN, fonts, known), _all(_UNSEEN, fonts, known)


def _all(
    scripts: tuple[str, ...], fonts: list[ImageFont.FreeTypeFont], known: set[bytes]
) -> torch.Tensor:
    missing = [_picture(_NO_LETTER, font) for font in fonts]
    classes = []
    for letter in _letters(scripts):
        pictures = [_picture(letter, font) for font in fonts]
        plain = pictures[0]
        if plain.tobytes() in known or np.array_equal(plain, missing[0]):
            continue
        known.add(plain.tobytes())
        for place, none in enumerate(missing):
            if np.array_equal(pictures[place], none):
                pictures[place] = plain
        classes.append(np.stack(pictures))
    return torch.from_numpy(np.stack(classes))


def _letters(scripts: tuple[str, ...]) -> Iterator[str]:
    """Letters without accents: one of these is too small to see in a drawing."""
    for code in range(0x41, 0x10400):
        letter = chr(code)
        name = unicodedata.name(letter, "")
        plain = not unicodedata.decomposition(letter) and " WITH " not in name
        if (
            name.startswith(scripts)
            and unicodedata.category(letter) in {"Lu", "Ll", "Lo"}
            and plain
        ):
            yield letter


def _picture(letter: str, font: ImageFont.FreeTypeFont) -> Array:
    """A letter in the middle of (32, 32), as large as its box allows."""
    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text((_CANVAS // 2,) * 2, letter, fill=255, font=font, anchor="mm")
    box = canvas.getbbox()
    picture = Image.new("L", (_PICTURE, _PICTURE))
    if box is not None:
        part = canvas.crop(box)
        scale = _LETTER / max(part.size)
        size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        corner = ((_PICTURE - size[0]) // 2, (_PICTURE - size[1]) // 2)
        picture.paste(part.resize(size, Image.Resampling.BOX), corner)
    return np.asarray(picture, dtype=np.float32) / 255
