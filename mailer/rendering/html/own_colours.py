"""Mark the author's own colours, so that a dark theme keeps them readable.

A dark theme makes all text light. On the author's pale background it must stay dark, and dark text
without a background of its own must become light. The classes for this are `on-light`, `on-dark` and
`own-ink`; `head.css.j2` has their rules.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Final

from mailer.rendering.colour import READABLE, colour_of, contrast

_TAG: Final = re.compile(r'<(/?)([a-z][a-z0-9]*)((?: [a-z-]+="[^"]*")*)>')
_ATTRIBUTE: Final = re.compile(r' ([a-z-]+)="([^"]*)"')
_VOID: Final = frozenset({"br", "col", "hr", "img", "wbr"})


def with_marked_colours(html: str, dark_surface: str) -> str:
    """Return cleaned HTML with these classes on the elements that have their own colours."""
    # For each open element: its name, and whether it is on a background of the author's.
    open_elements: list[tuple[str, bool]] = []

    def marked(found: re.Match[str]) -> str:
        closing, tag, written = found.groups()
        if closing:
            while open_elements and open_elements.pop()[0] != tag:
                pass
            return found[0]
        attributes = {name: unescape(value) for name, value in _ATTRIBUTE.findall(written)}
        ink, background = _colours(attributes)
        covered = bool(open_elements) and open_elements[-1][1]
        name = ""
        if background is not None:
            name = (
                "on-light" if contrast("#000000", background) > contrast("#ffffff", background) else "on-dark"
            )
        elif ink is not None and not covered and contrast(ink, dark_surface) < READABLE:
            name = "own-ink"
        if tag not in _VOID:
            open_elements.append((tag, covered or background is not None))
        return _with_class(found[0], name) if name else found[0]

    return _TAG.sub(marked, html)


def _colours(attributes: dict[str, str]) -> tuple[str | None, str | None]:
    """Return the colour of an element's text and of its background, where it sets them."""
    style: dict[str, str] = {}
    for declaration in attributes.get("style", "").split(";"):
        name, _, value = declaration.partition(":")
        style[name.strip().lower()] = value.strip()
    ink = style.get("color") or attributes.get("color", "")
    background = style.get("background-color") or style.get("background") or attributes.get("bgcolor", "")
    return colour_of(ink), colour_of(background.split(" ")[0])


def _with_class(tag: str, name: str) -> str:
    if ' class="' in tag:
        return tag.replace(' class="', f' class="{name} ', 1)
    return f'{tag[:-1]} class="{name}">'
