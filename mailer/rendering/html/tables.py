"""Measure Markdown tables before they are drawn, to find those that need help on a phone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markdown_it.token import Token

from mailer.rendering.source.markdown import visible_text

PHONE_WIDTH: Final = 256
"""The text column of a 320 px screen in a client without media queries."""
PAGE_WIDTH: Final = 536
_FONT_PIXELS: Final = 16
_PADDING_PIXELS: Final = 16
_LONG_PIXELS: Final = 160
_DENSE_SHARE: Final = 14 / 16
# An amount and its unit: 2.40 €, -3 %, 1,200 km, 18:30, 2026-01-31.
_AMOUNT: Final = re.compile(
    r"[^\w\s]{0,2}\s?[+\-−±]?\d[\d.,:/’' \u00a0\u202f–-]*\s?[^\W\d_]{0,4}[%‰€$£¥₽₹°]?"
)
_LONGEST_AMOUNT: Final = 16
# A line may break between two of these without a space.
_BREAKABLE: Final = re.compile(r"[\s\u200b]+|(?<=[-–—])(?=\w)")


@dataclass(frozen=True, slots=True)
class Shape:
    """How to draw a table. Cells are counted row by row, header cells first."""

    headings: tuple[str, ...]
    look: str
    """Class names. `stacks`: too wide for a phone, where each row becomes a list of its cells. `dense`: too
    wide for a page at the usual size. `crowded`: too wide for a page at any size, so that words break."""
    amounts: frozenset[int]
    """The cells that hold an amount, which no line break may split."""
    long: frozenset[int]
    """The cells with a run of characters too long for any column, such as an address."""

    @property
    def stacks(self) -> bool:
        """Whether its cells need labels."""
        return "stacks" in self.look


def shape_of(tokens: Sequence[Token]) -> Shape:
    """Return the shape of the table that `tokens` hold, from `table_open` to `table_close`."""
    texts = [" ".join(visible_text([token])) for token in tokens if token.type == "inline"]
    columns = sum(token.type == "th_open" for token in tokens) or 1
    amounts = frozenset(at for at, text in enumerate(texts) if _is_amount(text))
    widths = [0.0] * columns
    long = set()
    for at, text in enumerate(texts):
        pieces = [text] if at in amounts else _BREAKABLE.split(text)
        widest = max((_pixels(piece) for piece in pieces), default=0.0)
        if widest > _LONG_PIXELS:
            long.add(at)
        widths[at % columns] = max(widths[at % columns], min(widest, _LONG_PIXELS))
    least = sum(widths) + _PADDING_PIXELS * columns
    names = {
        "stacks": least > PHONE_WIDTH or (bool(long) and columns > 1),
        "dense": least > PAGE_WIDTH,
        "crowded": least * _DENSE_SHARE > PAGE_WIDTH,
    }
    look = " ".join(name for name, applies in names.items() if applies)
    return Shape(tuple(texts[:columns]), look, amounts, frozenset(long))


def _is_amount(text: str) -> bool:
    return len(text) <= _LONGEST_AMOUNT and _AMOUNT.fullmatch(text.strip()) is not None


def _pixels(text: str) -> float:
    """Return the approximate width of an unbroken run; East Asian text breaks between any two characters."""
    wide = [character for character in text if unicodedata.east_asian_width(character) in "WF"]
    if wide:
        return 2 * _FONT_PIXELS
    shares = (0.75 if character.isupper() or character in "mwMW@%&" else 0.52 for character in text)
    return _FONT_PIXELS * sum(shares)
