"""Estimate how wide text is, and split it where lines may break."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

# Widths as shares of the font size: of DejaVu Sans or Serif, whichever is wider. Other fonts of mail
# clients are narrower.
_SHARES: Final = {
    character: share
    for share, characters in (
        (0.30, "'"),
        (0.35, " ,./:;\\ijl|"),
        (0.40, "()-I[]f"),
        (0.45, "!Jt"),
        (0.50, '"*_`r'),
        (0.55, "?sz"),
        (0.60, "cvxy"),
        (0.65, "$0123456789abdeghknopqu{}"),
        (0.70, "FLPSTYZ"),
        (0.75, "ABEKVX"),
        (0.80, "CGR"),
        (0.85, "#+<=>DOQU^~"),
        (0.90, "&HNw"),
        (1.00, "%@m"),
        (1.05, "MW"),
        (0.00, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"),
    )
    for character in characters
}
_MONOSPACE_SHARE: Final = 0.605
_BOLD_SCALE: Final = 1.15
# Scripts whose lines break between any two characters, and those that need a dictionary for it.
_UNSPACED: Final = "\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60\U0001f000-\U0003fffd"
_DICTIONARY: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_DICTIONARY_WORD: Final = 10
# Lines break after these between two letters or digits.
_BREAKING: Final = "[-–—?…]"
_PIECES: Final = re.compile(
    rf"[{_UNSPACED}][、。，．！？：；）」』】ー々]*"
    rf"|[{_DICTIONARY}]{{1,{_DICTIONARY_WORD}}}"
    rf"|(?:[^ \t\r\n\f\u200b\u00ad\-–—?…{_UNSPACED}{_DICTIONARY}]|(?<!\w){_BREAKING}|{_BREAKING}(?!\w))+"
    rf"{_BREAKING}?"
    rf"|{_BREAKING}"
)


def text_width(text: str, font_pixels: float, *, monospace: bool, bold: bool, spacing: float) -> float:
    """Return the approximate width of a line of text in CSS pixels, rather too much than too little."""
    scale = _BOLD_SCALE if bold and not monospace else 1.0
    return _shares(text, monospace) * font_pixels * scale + spacing * len(text)


@lru_cache(maxsize=10_000)
def _shares(text: str, monospace: bool) -> float:
    return sum(_share(character, monospace) for character in text)


def _share(character: str, monospace: bool) -> float:
    known = _SHARES.get(character)
    if known is None:
        if unicodedata.east_asian_width(character) in "WF":
            return 1.0 if character < "\U0001f000" else 1.4
        known = 0.0 if unicodedata.combining(character) else 0.9 if character.isupper() else 0.72
    return _MONOSPACE_SHARE if monospace and known else known


def unbreakable(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each piece that no line breaks inside.

    Adjacent pieces have a possible break between them, as after a hyphen or between Chinese characters.
    """
    for found in _PIECES.finditer(text):
        yield found.span()
