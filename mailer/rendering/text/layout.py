"""Lay out lines of plain text: measure them, wrap them, underline headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from mailer.rendering.templating.slots import SLOT

WIDTH: Final = 72
JOINT: Final = "\x1f"
"""A space at which lines do not break; it keeps a link's number beside its label."""
BLANKS: Final = re.compile(r"[ \t\n]+")
# The width assumed for a subscriber's value: about a first name.
_SLOT_WIDTH: Final = 8
# mbox readers take "From " for the start of the next message; SMTP doubles a leading dot.
_UNSAFE_STARTS: Final = ("From ", ".")
# East Asian punctuation that may not begin or end a line.
_NOT_FIRST: Final = frozenset("、。，．・：；？！）］｝」』】〉》〕ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NOT_LAST: Final = frozenset("（［｛「『【〈《〔")
NARROW: Final = re.compile(r"[ -~\u00a1-\u00ac\u00ae-\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf]*")
"""Text of which every character takes one column: Latin letters, dashes, quotation marks, currency signs."""
_UNDERLINES: Final = {"h1": "=", "h2": "-"}


def heading(text: str, tag: str = "h1", width: int = WIDTH) -> str:
    """Return `text` wrapped, and underlined to the width of its longest line."""
    lines = wrap(text, width)
    rule = _UNDERLINES.get(tag)
    if rule is None or not lines:
        return "\n".join(lines)
    return "\n".join([*lines, rule * min(width, max(3, *(columns(line) for line in lines)))])


def safe_lines(text: str) -> str:
    """Return `text` without trailing spaces, and without lines that begin with `From ` or a dot.

    The signature separator `-- ` keeps its space (RFC 3676, section 4.3).
    """
    lines = []
    for line in text.split("\n"):
        shown = line if line == "-- " else line.rstrip(" \t")
        lines.append(f" {shown}" if shown.startswith(_UNSAFE_STARTS) else shown)
    return "\n".join(lines)


def columns(text: str) -> int:
    """Return the columns that `text` takes: none for a block tag, `_SLOT_WIDTH` for other slots."""
    if "xslot" in text and (slots := SLOT.findall(text)):
        return columns(SLOT.sub("", text)) + _SLOT_WIDTH * sum(not slot.endswith("t") for slot in slots)
    return len(text) if text.isascii() else _display_columns(text.replace(JOINT, " "))


@lru_cache(maxsize=4096)
def _display_columns(text: str) -> int:
    if NARROW.fullmatch(text):
        return len(text)
    # Imported here because its tables take long to load, and most European texts do not need them.
    from wcwidth import wcswidth

    width = wcswidth(text)
    return width if width >= 0 else len(text)


def wrap(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` columns, broken at spaces or between wide characters.

    A longer word gets a line of its own.
    """
    lines: list[str] = []
    for part in text.split("\n"):
        line, used = "", 0
        for glue, word, size in _words(part):
            if size > width and JOINT in word:
                lines += [line] if line else []
                lines += wrap(word.replace(JOINT, " "), width)
                line, used = "", 0
            elif line and used + len(glue) + size > width:
                lines.append(line)
                line, used = word, size
            else:
                line, used = line + glue + word if line else word, used + (len(glue) if line else 0) + size
        if line or not part.strip():
            lines.append(line)
    return lines if any(lines) else []


def _words(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield the space before each unbreakable piece, the piece, and its columns."""
    for word in BLANKS.split(text):
        if not word:
            continue
        size = columns(word)
        if size == len(word) or "://" in word:
            yield " ", word, size
            continue
        glue = " "
        for piece in _wide_pieces(word):
            yield glue, piece, columns(piece)
            glue = ""


def _wide_pieces(word: str) -> Iterator[str]:
    start = 0
    for at in range(1, len(word)):
        before, after = word[at - 1], word[at]
        wide = _display_columns(before) == 2 and _display_columns(after) == 2
        allowed = before not in _NOT_LAST and after not in _NOT_FIRST
        if wide and allowed and (before.isalnum() or after.isalnum()):
            yield word[start:at]
            start = at
    yield word[start:]
