"""Text from outside made safe for a terminal or a log; numbers read and written."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Return `text` with escapes such as `\\x1b` in place of unprintable characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number and its noun: `1 subscriber`, `2,000 subscribers`, `0 replies`.

    Without `plural`, the noun takes an s.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def whole_number(text: str, *, digits: int = 18) -> int | None:
    """Return the number that ASCII digits write, or None for other text or more digits.

    18 digits fit into a column of the database. `str.isdigit` accepts `²`, which `int` refuses, and `int`
    refuses more than 4,300 digits.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def blanked(text: str) -> str:
    """Return `text` with blanks in place of unprintable characters; its length stays the same."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
