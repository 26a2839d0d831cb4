"""Check styles and accessibility."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from lxml import etree
from msgspec.structs import replace

from mailer.rendering.colour import READABLE, colour_of, contrast
from mailer.rendering.lint.cascade import Cascade
from mailer.rendering.lint.findings import Finding, Level
from mailer.rendering.lint.mail import Mail
from mailer.rendering.lint.support import (
    MAIN,
    Feature,
    described,
    lacking,
    used_by_attributes,
    used_by_element,
    used_by_sheet,
)

LEAST_FONT_PIXELS: Final = 14
_ACTIVE: Final = frozenset(
    [
        "script",
        "form",
        "input",
        "button",
        "select",
        "textarea",
        "iframe",
        "frame",
        "object",
        "embed",
        "applet",
        "video",
        "audio",
    ]
)
_ROOT_FONT_PIXELS: Final = 16.0
_DARK_SCREEN_PIXELS: Final = 700
_WITHOUT_STYLE: Final = frozenset({"href", "src", "alt", "title", "width", "height"})
_Colours = tuple[str | None, str | None]
"""The colours of a text and of its background, None where nothing sets them."""


def active_content(mail: Mail) -> Iterator[Finding]:
    """Find elements that email clients remove."""
    for tag in sorted({str(e.tag) for e in mail.elements if e.tag in _ACTIVE}):
        yield mail.finding("active-content", f"<{tag}> does not work in email", at=f"<{tag}")


def external_style(mail: Mail) -> Iterator[Finding]:
    """Find external style sheets, which email clients do not load."""
    for element in mail.elements:
        if element.tag == "link" and "stylesheet" in (element.get("rel") or "").lower():
            yield mail.finding("external-style", f"<link> to {element.get('href')}", at="<link")
        if element.tag == "style" and "@import" in "".join(map(str, element.itertext())):
            yield mail.finding("external-style", "@import in a style sheet", at="@import")


def client_support(mail: Mail) -> Iterator[Finding]:
    """Find features that an email client does not support, each once.

    Without a choice of clients, only what makes a message hard to read in one of the main ones.
    """
    clients, seen = mail.clients or MAIN, set[str]()
    for feature in _used(mail):
        if feature.label in seen or (feature.is_graceful and not mail.clients):
            continue
        seen.add(feature.label)
        without, partly = lacking(feature, clients), lacking(feature, clients, "a") if mail.clients else []
        said = [f"is not supported by {described(without, clients)}"] if without else []
        said += [f"only in part by {described(partly, clients)}"] if partly else []
        if said:
            harmless = feature.is_graceful or not without
            yield mail.finding(
                "client-support",
                f"{feature.label} {'is supported ' if not without else ''}{', '.join(said)}",
                at=feature.written,
                level=Level.INFO if harmless else None,
                remedy="the message stays readable without it" if harmless else "",
            )


def _used(mail: Mail) -> Iterator[Feature]:
    """Yield the features that a message uses; those of its style sheets only for chosen clients."""
    for element in mail.elements:
        if element in mail.hidden:
            continue
        yield from used_by_element(str(element.tag), declarations(element))
        if mail.clients:
            yield from used_by_attributes(map(str, element.attrib))
    for sheet in mail.root.iter("style") if mail.clients else ():
        css = "".join(map(str, sheet.itertext()))
        # Rules in a sheet are for those clients that know them.
        yield from (replace(one, is_progressive=True, written="") for one in used_by_sheet(css))


def contrast_of_text(mail: Mail) -> Iterator[Finding]:
    """Find text with too little contrast against its background (WCAG 2.2, 1.4.3)."""
    seen: set[tuple[str, str]] = set()
    known: dict[etree._Element, _Colours] = {}
    for element, text in mail.texts:
        if not text.strip() or not re.search(r"\w", text):
            continue
        found = _colours(element, known)
        colour, background = found[0] or "#000000", found[1] or "#ffffff"
        ratio = contrast(colour, background)
        if ratio < READABLE and (colour, background) not in seen:
            seen.add((colour, background))
            words = " ".join(text.split())[:40]
            yield mail.finding(
                "contrast", f"{colour} on {background} has {ratio:.2f}:1, less than {READABLE}:1", at=words
            )


def contrast_in_dark_theme(mail: Mail) -> Iterator[Finding]:
    """Find text that has enough contrast in a light theme, and too little in the message's dark one."""
    if "prefers-color-scheme" not in mail.html:
        return
    light: dict[etree._Element, _Colours] = {}
    dark = _DarkColours(mail.root)
    seen: set[_Colours] = set()
    for element, text in mail.texts:
        if not re.search(r"\w", text):
            continue
        colours = dark.of(element)
        # What no rule colours depends on the client.
        if colours in seen or colours[0] is None or colours[1] is None:
            continue
        ratio = contrast(colours[0], colours[1])
        if ratio >= READABLE:
            continue
        by_day = _colours(element, light)
        if contrast(by_day[0] or "#000000", by_day[1] or "#ffffff") >= READABLE:
            seen.add(colours)
            words = " ".join(text.split())[:40]
            yield mail.finding(
                "contrast",
                f"in dark mode, {colours[0]} on {colours[1]} has {ratio:.2f}:1, less than {READABLE}:1",
                at=words,
            )


class _DarkColours:
    """The colours of elements in the dark theme, worked out once for elements that look the same to rules."""

    def __init__(self, root: etree._Element) -> None:
        self._cascade = Cascade(root, _DARK_SCREEN_PIXELS, dark=True)
        self._kinds: dict[tuple[object, ...], int] = {}
        self._colours: list[_Colours] = []
        self._known: dict[etree._Element, int] = {}

    def of(self, element: etree._Element) -> _Colours:
        return self._colours[self._kind(element)]

    def _kind(self, element: etree._Element) -> int:
        """Return the number of the kind of element: its tag and attributes, and those around it."""
        if element not in self._known:
            parent = element.getparent()
            above = None if parent is None else self._kind(parent)
            seen = tuple(item for item in element.attrib.items() if item[0] not in _WITHOUT_STYLE)
            kind = self._kinds.setdefault((above, element.tag, seen), len(self._colours))
            if kind == len(self._colours):
                own = self._cascade.style(element).own
                text, background = colour_of(own.get("color", "")), colour_of(own.get("background-color", ""))
                around = (None, None) if above is None else self._colours[above]
                self._colours.append((text or around[0], background or around[1]))
            self._known[element] = kind
        return self._known[element]


def table_role(mail: Mail) -> Iterator[Finding]:
    """Find layout tables that are not marked as such."""
    for element in mail.elements:
        if element.tag != "table" or element in mail.hidden:
            continue
        role = (element.get("role") or "").lower()
        if role not in ("presentation", "none") and next(element.iter("th"), None) is None:
            cell = next((" ".join(t.split()) for t in map(str, element.itertext()) if t.strip()), "")
            yield mail.finding("table-role", "a table without header cells has no role", at=cell[:40])


def small_text(mail: Mail) -> Iterator[Finding]:
    """Find text that is too small on phones; footnote marks may be."""
    seen: set[float] = set()
    for element, text in mail.texts:
        if not text.strip() or any(e.tag in ("sup", "sub") for e in (element, *element.iterancestors())):
            continue
        pixels = font_pixels(element)
        if pixels < LEAST_FONT_PIXELS and pixels not in seen:
            seen.add(pixels)
            words = " ".join(text.split())[:40]
            yield mail.finding("small-text", f"'{words}' is {pixels:g} px", at=words)


def heading_order(mail: Mail) -> Iterator[Finding]:
    """Find headings that skip a level."""
    before = 0
    for element in mail.elements:
        if not re.fullmatch(r"h[1-6]", str(element.tag)) or element in mail.hidden:
            continue
        level = int(str(element.tag)[1])
        words = " ".join("".join(map(str, element.itertext())).split())
        if before and level > before + 1:
            yield mail.finding(
                "heading-order", f"'{words[:60]}' is level {level} after level {before}", at=words
            )
        before = level


def declarations(element: etree._Element) -> dict[str, str]:
    """Return the properties of an element's style attribute, in lower case, without `!important`."""
    return _declarations(element.get("style") or "")


# An issue has many elements and few styles. Nobody changes what is returned.
@lru_cache(maxsize=4_096)
def _declarations(style: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for declaration in style.split(";"):
        name, colon, value = declaration.partition(":")
        if colon:
            out[name.strip().lower()] = re.sub(r"\s*!important", "", value.strip(), flags=re.IGNORECASE)
    return out


def _colours(element: etree._Element, known: dict[etree._Element, _Colours]) -> _Colours:
    """Return the colours of an element's text and background, if any are set; `known` caches them."""
    if element in known:
        return known[element]
    style, parent = declarations(element), element.getparent()
    text, background = colour_of(style.get("color", "")), None
    if text is None and element.tag == "a":
        text = "#0000ee"
    for value in (style.get("background-color"), style.get("background"), element.get("bgcolor")):
        background = background or (colour_of(value.split()[0]) if value and value.split() else None)
    if parent is not None and not (text and background):
        above = _colours(parent, known)
        text, background = text or above[0], background or above[1]
    known[element] = text, background
    return text, background


def font_pixels(element: etree._Element) -> float:
    """Return the font size of an element in CSS pixels."""
    size = declarations(element).get("font-size", "")
    found = re.fullmatch(r"(\d*\.?\d+)(px|pt|em|rem|%)", size)
    parent = element.getparent()
    if found is None:
        return font_pixels(parent) if parent is not None else _ROOT_FONT_PIXELS
    number = float(found[1])
    match found[2]:
        case "px":
            return number
        case "pt":
            return number * 4 / 3
        case "rem":
            return number * _ROOT_FONT_PIXELS
        case unit:
            above = font_pixels(parent) if parent is not None else _ROOT_FONT_PIXELS
            return above * number / (100 if unit == "%" else 1)


RULES: Final = (
    active_content, external_style, client_support, contrast_of_text, contrast_in_dark_theme, table_role,
    small_text, heading_order,
)  # fmt: skip
