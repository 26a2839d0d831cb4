"""Find elements that don't fit on the screen of a phone or in the window of a desktop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lxml import etree

from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Mail
from mailer.rendering.lint.width import Measurement, Overflow

SCREENS: Final = {320: "phones", 700: "desktop windows"}
"""The widths that an email has to fit, in CSS pixels, the narrowest first."""
_SHOWN_CHARACTERS: Final = 40


def too_wide(mail: Mail) -> Iterator[Finding]:
    """Find elements that make the email wider than a phone, or wider than a desktop window."""
    seen: set[etree._Element] = set()
    for screen, readers in SCREENS.items():
        for overflow in Measurement(mail.root, screen).overflows:
            if overflow.element not in seen:
                seen.add(overflow.element)
                yield _finding(mail, overflow, f"{readers} have {screen}")


def _finding(mail: Mail, overflow: Overflow, limit: str) -> Finding:
    element, needs = overflow.element, f"needs a screen of {overflow.needs:.0f} px; {limit}"
    if not overflow.text:
        words = next((" ".join(text.split()) for text in map(str, element.itertext()) if text.strip()), "")
        return mail.finding("too-wide", f"<{element.tag}> {needs}", at=words or element.get("src") or "")
    text = overflow.text
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
    if element.tag == "table":
        remedy = "use fewer columns or shorter words, or make two tables of it"
        return mail.finding("too-wide", f"the table with '{shown}' {needs}", at=text, remedy=remedy)
    remedy = "shorten it, or put a space into it where a line may break"
    return mail.finding("too-wide", f"'{shown}' does not break: it {needs}", at=text, remedy=remedy)


RULES: Final = (too_wide,)
