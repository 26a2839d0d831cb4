"""Prepare Markdown for Jinja: code keeps its braces, and HTML comments are removed.

Line numbers are kept, so that later errors name the line of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from markdown_it import MarkdownIt

from mailer.errors import SourceError

# Replacements for braces in code. Issues cannot contain control characters, so these are unambiguous.
_SHIELDS: Final = {"{": "\x02", "}": "\x03"}
_BRACES: Final = re.compile(r"\{(?=[{%#])|(?<=[}%#])\}")
# Whichever begins first wins: a comment in a code span is code, a code span in a comment is a comment.
_SPAN_OR_COMMENT: Final = re.compile(r"\\`|(?<!`)(`+)(?!`)(?:.*?[^`])??\1(?!`)|<!--.*?-->", re.DOTALL)
_BLOCKS: Final = MarkdownIt("commonmark", {"html": True}).enable("table")
_BLOCKS.core.ruler.disable(["inline"])


def prepare(source: str) -> str:
    """Return `source` with the braces of its code shielded and without its HTML comments.

    Raises `UnclosedCommentError` for a comment that never ends.
    """
    if "`" not in source and "~~~" not in source and "<!--" not in source and "    " not in source:
        return source
    lines = source.split("\n")
    for first, end, is_code in _regions(source):
        text = "\n".join(lines[first:end])
        if is_code:
            text = _shielded(text)
        else:
            text = _SPAN_OR_COMMENT.sub(_replaced, text)
            if "<!--" in text and text.lstrip().startswith("<!--"):
                raise UnclosedCommentError(first + text[: text.index("<!--")].count("\n"))
        lines[first:end] = text.split("\n")
    return "\n".join(lines)


def without_code(source: str) -> str:
    """Return `source` with spaces instead of its code and HTML comments; line numbers are kept."""
    lines = source.split("\n")
    for first, end, is_code in _regions(source):
        text = "\n".join(lines[first:end])
        text = _blank(text) if is_code else _SPAN_OR_COMMENT.sub(lambda found: _blank(found[0]), text)
        lines[first:end] = text.split("\n")
    return "\n".join(lines)


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def unshield(text: str) -> str:
    """Return `text` with the braces of code restored."""
    for brace, shield in _SHIELDS.items():
        text = text.replace(shield, brace)
    return text


class UnclosedCommentError(SourceError):
    """A comment would hide the rest of the issue; `line` counts from 0."""

    def __init__(self, line: int) -> None:
        super().__init__("the comment '<!--' is never closed", remedy="end it with -->")
        self.line = line


def _replaced(found: re.Match[str]) -> str:
    if found[0].startswith("<!--"):
        return "\n" * found[0].count("\n")
    return _shielded(found[0])


def _shielded(code: str) -> str:
    return _BRACES.sub(lambda found: _SHIELDS[found[0]], code)


def _regions(source: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the first line, the line after the last, and whether it is code, of every block of text."""
    after = 0
    for token in _BLOCKS.parse(source):
        if token.map is None or token.type not in ("fence", "code_block", "inline", "html_block"):
            continue
        # The cells of one row share its line.
        if token.map[0] >= after:
            after = token.map[1]
            yield token.map[0], after, token.type in ("fence", "code_block")
