"""Find blocks that run against the direction of their newsletter, such as English in an Arabic one."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from markdown_it.token import Token

from mailer.rendering.templating.slots import SLOT

RIGHT_TO_LEFT: Final = ("R", "AL")
_BLOCKS: Final = frozenset({"paragraph_open", "blockquote_open", "bullet_list_open", "ordered_list_open"})
# Their parts follow the newsletter's direction, so that bullets and columns stay in line.
_WHOLE: Final = frozenset({"bullet_list_open", "ordered_list_open", "table_open"})


def mark_directions(tokens: Sequence[Token], *, rtl: bool) -> None:
    """Set `dir` on each paragraph, quote and list all of whose letters run against the newsletter.

    Blocks of both directions follow the newsletter, and so do headings. Addresses and code do not count,
    since they run from left to right in any language. A `dir` that the author wrote stays, with all that it
    contains.
    """
    index = 0
    while index < len(tokens):
        token, end = tokens[index], index + 1
        if token.type in _BLOCKS | _WHOLE and not token.hidden:
            closed = _end(tokens, index)
            if token.attrGet("dir"):
                end = closed
            elif token.type in _BLOCKS and _directions(tokens[index:closed]) == {not rtl}:
                token.attrSet("dir", "ltr" if rtl else "rtl")
                end = closed
            elif token.type in _WHOLE:
                end = closed
        index = end


def _end(tokens: Sequence[Token], index: int) -> int:
    """Return the index after the token that closes the block at `index`."""
    depth = 0
    for at in range(index, len(tokens)):
        depth += tokens[at].nesting
        if not depth:
            return at + 1
    return len(tokens)


def _directions(tokens: Sequence[Token]) -> set[bool]:
    """Return whether the letters of these blocks run from right to left: one answer, both or none."""
    found: set[bool] = set()
    for token in tokens:
        inside_address = False
        for child in token.children or ():
            if child.type in ("link_open", "link_close"):
                bare = child.markup == "autolink" or child.info == "auto"
                inside_address = bare and child.type == "link_open"
            if child.type in ("text", "image") and not inside_address:
                found |= _letters(SLOT.sub("", child.content))
    return found


def _letters(text: str) -> set[bool]:
    kinds = set(map(unicodedata.bidirectional, text))
    return {right for right, some in ((False, ("L",)), (True, RIGHT_TO_LEFT)) if kinds.intersection(some)}
