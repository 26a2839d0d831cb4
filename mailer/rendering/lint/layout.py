"""Measure elements, and find those that are wider than a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lxml import etree

from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Mail
from mailer.rendering.lint.style import declarations, font_pixels

PHONE_PIXELS: Final = 320
# The text column of a phone: the screen less the margins.
_COLUMN_PIXELS: Final = 280
_CHARACTER_SHARE: Final = 0.5
_PIXELS: Final = re.compile(r"(\d+(?:\.\d+)?)(px|pt)?")


def too_wide(mail: Mail) -> Iterator[Finding]:
    """Find elements with a fixed width, and text without a line break, that do not fit on a phone."""
    for element in mail.elements:
        if element in mail.hidden or _is_held(element):
            continue
        style = declarations(element)
        width = max(_fixed_width(element, style), _unbroken_width(element, style))
        if width > _COLUMN_PIXELS:
            words = " ".join("".join(map(str, element.itertext())).split())[:40]
            yield mail.finding(
                "too-wide",
                f"<{element.tag}> takes {width:.0f} px; a phone has {PHONE_PIXELS}, less the margins",
                at=words or (element.get("src") or ""),
            )


def _is_held(element: etree._Element) -> bool:
    """Whether an element is in a scroll area, or limited to the width of its parent."""
    for above in (element, *element.iterancestors()):
        style = declarations(above)
        if style.get("overflow-x", style.get("overflow", "")) in ("auto", "scroll", "hidden"):
            return True
    return "%" in declarations(element).get("max-width", "")


def _fixed_width(element: etree._Element, style: dict[str, str]) -> float:
    """Return the fixed width of an element in pixels, or 0."""
    if _pixels(style.get("width", "")) and "max-width" in style:
        return 0.0
    asked = [style.get("min-width", ""), style.get("width", "")]
    if element.tag in ("table", "td", "th") and "width" not in style:
        asked.append(element.get("width") or "")
    return max(map(_pixels, asked))


def _unbroken_width(element: etree._Element, style: dict[str, str]) -> float:
    """Return the approximate width of text that must not wrap, or 0."""
    if style.get("white-space") not in ("nowrap", "pre"):
        return 0.0
    lines = "".join(map(str, element.itertext())).split("\n")
    return max(len(line.strip()) for line in lines) * font_pixels(element) * _CHARACTER_SHARE


def _pixels(value: str) -> float:
    found = _PIXELS.fullmatch(value.strip())
    return float(found[1]) * (4 / 3 if found[2] == "pt" else 1) if found else 0.0


RULES: Final = (too_wide,)
