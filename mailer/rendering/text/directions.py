"""Marks that make right-to-left text read well in plain text (UAX 9).

Mail clients take a line's direction from its first letter, so a line of Hebrew that begins with a Latin word
would run from left to right. An invisible mark before it prevents that. Nothing is put into a line without
right-to-left letters, and nothing next to a web address, so that copied commands and links work.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from mailer.rendering.source.directions import RIGHT_TO_LEFT

RLM: Final = "\u200f"
LRM: Final = "\u200e"
LRI: Final = "\u2066"
FSI: Final = "\u2068"
PDI: Final = "\u2069"
MARKS: Final = frozenset((RLM, LRM, LRI, FSI, PDI))
# A slash or the like at the end of an address would appear before it, unless a left-to-right mark follows.
# The blank keeps the mark out of the address.
_NEUTRAL_END: Final = re.compile(r"(://\S*[/=&#+~_-][.,;:!?)\]»”]*)(?: |$)")


def is_right_to_left(text: str) -> bool:
    """Return whether a text has letters that run from right to left."""
    return any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in text)


def begins_right_to_left(line: str) -> bool:
    """Return whether the first letter of a line, outside isolates, runs from right to left (rules P2, P3)."""
    depth = 0
    for character in line:
        kind = unicodedata.bidirectional(character)
        if kind in ("LRI", "RLI", "FSI"):
            depth += 1
        elif kind == "PDI":
            depth = max(0, depth - 1)
        elif not depth and kind in ("L", *RIGHT_TO_LEFT):
            return kind != "L"
    return False


def directed(text: str) -> str:
    """Return the lines of a right-to-left block with the marks that they need.

    A block without right-to-left letters, such as a quotation in English, stays as it is.
    """
    if not is_right_to_left(text):
        return text
    return "\n".join(map(_directed_line, text.split("\n")))


def _directed_line(line: str) -> str:
    line = _NEUTRAL_END.sub(rf"\1 {LRM}", line)
    return line if not line or begins_right_to_left(line) else RLM + line


def isolated(text: str) -> str:
    """Return a left-to-right piece, such as code, that the letters around it do not reorder."""
    return f"{LRI}{text}{PDI}"


def isolated_cell(text: str) -> str:
    """Return a cell that keeps its place in a right-to-left row, whatever its first letter is.

    A cell with an address stays as it is: the mark would become part of the address.
    """
    if not text.strip() or begins_right_to_left(text) or "://" in text or "@" in text:
        return text
    return f"{FSI}{text}{PDI}"
