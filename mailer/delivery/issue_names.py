"""How an operator names an issue: `007-spring`, or just its number, `7`."""

from __future__ import annotations


def is_named(slug: str, name: str) -> bool:
    """Return whether `name` means the issue with this slug: the slug itself, or the number it begins with."""
    return name == slug or (name.isdecimal() and slug.split("-")[0].lstrip("0") == name.lstrip("0"))


def number_of(slug: str) -> str:
    """Return the number that a slug begins with, without leading zeros, or an empty string."""
    first = slug.partition("-")[0]
    return str(int(first)) if first.isascii() and first.isdecimal() and len(first) < 10 else ""
