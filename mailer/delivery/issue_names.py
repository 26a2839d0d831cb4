"""How an operator names an issue: `007-spring`, or just its number, `7`."""

from __future__ import annotations


def is_named(slug: str, name: str) -> bool:
    """Return whether `name` means the issue with this slug: the slug itself, or the number it begins with."""
    return name == slug or (name.isdecimal() and slug.split("-")[0].lstrip("0") == name.lstrip("0"))
