"""Find the file and line that a place in a filled template came from.

This runs only for errors: the template is filled a second time, with a mark before each line of every file,
which survives includes, macros, loops and blocks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

Locate = Callable[[int, int], str]
"""Returns the place in words (`base.mjml.j2:12`) of a line, from 1, and a column, from 0, after filling."""

_MARK: Final = re.compile("\x01([^\x02]*)\x02([0-9]+)\x03")


class Marks(Extension):
    """Puts a mark before each line of a template's own text."""

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Return the tokens with the marks in them; part of `jinja2.ext.Extension`."""
        for token in stream:
            if token.type == "data":
                lines = token.value.split("\n")
                marked = [
                    f"\x01{stream.name or ''}\x02{token.lineno + number}\x03{line}"
                    for number, line in enumerate(lines)
                ]
                yield Token(token.lineno, "data", "\n".join(marked))
            else:
                yield token


def origin(marked: str, line: int, column: int) -> tuple[str, int] | None:
    """Return the file name and line of a place in the text without its marks, or None if unknown."""
    places: list[tuple[int, int]] = []
    origins: list[tuple[str, int]] = []
    row, begins, gone = 1, 0, 0
    end = 0
    for mark in _MARK.finditer(marked):
        between = marked[end : mark.start()]
        if newlines := between.count("\n"):
            row += newlines
            begins, gone = end + between.rindex("\n") + 1, 0
        places.append((row, mark.start() - begins - gone))
        origins.append((mark[1], int(mark[2])))
        gone += len(mark[0])
        end = mark.end()
    found = bisect_right(places, (line, column)) - 1
    return origins[found] if found >= 0 else None
