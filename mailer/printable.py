"""Text from outside, made safe to print on a terminal and to write to a log."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return `text` with escapes such as `\\x1b` in place of unprintable characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def blanked(text: str) -> str:
    """Return `text` with blanks in place of unprintable characters; its length stays the same."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
