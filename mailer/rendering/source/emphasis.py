"""Recognise emphasis next to Chinese, Japanese and Korean text, which has no spaces around it.

CommonMark decides by spaces and punctuation whether asterisks open or close emphasis. So the ones in
`获赠**“服务”**。` do neither, and those after `**反复。**开头` open instead of closing.
"""

from __future__ import annotations

import unicodedata

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar
from markdown_it.rules_inline import emphasis, strikethrough
from markdown_it.rules_inline.state_inline import StateInline


def wide_emphasis_plugin(markdown: MarkdownIt) -> None:
    """Let `*` and `~~` open and close emphasis next to wide characters; elsewhere nothing changes."""
    markdown.inline.ruler.at("emphasis", _emphasis)
    markdown.inline.ruler.at("strikethrough", _strikethrough)


def _emphasis(state: StateInline, silent: bool) -> bool:
    start, known = state.pos, len(state.delimiters)
    found = emphasis.tokenize(state, silent)
    if found and state.src[start] == "*":
        _widen(state, start, known)
    return found


def _strikethrough(state: StateInline, silent: bool) -> bool:
    start, known = state.pos, len(state.delimiters)
    found = strikethrough.tokenize(state, silent)
    if found:
        _widen(state, start, known)
    return found


def _widen(state: StateInline, start: int, known: int) -> None:
    """Let the delimiters after the first `known` open or close, if a wide character is next to them."""
    before = state.src[start - 1] if start else " "
    after = state.src[state.pos] if state.pos < state.posMax else " "
    if not _is_wide(before) and not _is_wide(after):
        return
    for delimiter in state.delimiters[known:]:
        delimiter.open |= _flanks(inside=after, outside=before)
        delimiter.close |= _flanks(inside=before, outside=after)


def _flanks(*, inside: str, outside: str) -> bool:
    """Return whether a delimiter belongs to the text on its inner side (CommonMark 0.31, section 6.2)."""
    return not inside.isspace() and (
        not _is_punctuation(inside) or outside.isspace() or _is_punctuation(outside) or _is_wide(outside)
    )


def _is_punctuation(character: str) -> bool:
    return not _is_wide(character) and (isMdAsciiPunct(ord(character)) or isPunctChar(character))


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F", "H")
