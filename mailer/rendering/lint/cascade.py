"""The styles that decide the widths and colours of elements, as a client with one screen computes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache
from typing import Final

from lxml import etree
from msgspec import Struct

from mailer.printable import whole_number

_ROOT_FONT_PIXELS: Final = 16.0
_MAX_RULES: Final = 2_000
_SIDES: Final = ("top", "right", "bottom", "left")
_KEPT: Final = re.compile(
    r"(?:padding|margin|border)(?:-(?:top|right|bottom|left))?(?:-width)?"
    r"|(?:min-|max-)?width|display|float|box-sizing|table-layout|border-(?:collapse|spacing)|overflow(?:-x)?"
    r"|white-space|word-break|overflow-wrap|word-wrap|font(?:-size|-weight|-family)?|letter-spacing|direction"
    r"|color|background(?:-color)?"
)
_INLINE: Final = frozenset([
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "del", "dfn", "em", "font", "i",
    "img", "ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small", "span", "strike",
    "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
])  # fmt: skip
_DISPLAYS: Final = {
    **dict.fromkeys(_INLINE, "inline"),
    **dict.fromkeys(("head", "style", "script", "title", "template"), "none"),
    "table": "table",
    "td": "table-cell",
    "th": "table-cell",
    "tr": "table-row",
    **dict.fromkeys(("thead", "tbody", "tfoot"), "table-row-group"),
}
# What browsers apply to an element without any style.
_DEFAULTS: Final = {
    **dict.fromkeys(("b", "strong", "th", "h1", "h2", "h3", "h4", "h5", "h6"), "font-weight: bold"),
    **dict.fromkeys(("ul", "ol"), "padding-left: 40px"),
    **dict.fromkeys(("blockquote", "figure"), "margin: 0 40px"),
    "dd": "margin-left: 40px",
    "body": "margin: 8px",
    **dict.fromkeys(("code", "kbd", "samp", "tt"), "font-family: monospace"),
    "pre": "font-family: monospace; white-space: pre",
    **dict.fromkeys(("small", "sub", "sup"), "font-size: 83%"),
}
_HEADINGS: Final = {"h1": 2.0, "h2": 1.5, "h3": 1.17, "h4": 1.0, "h5": 0.83, "h6": 0.67}
_LENGTH: Final = re.compile(r"(-?\d*\.?\d+)(px|pt|em|rem|%|)")
_LIMIT: Final = re.compile(r"(min|max)-width\s*:\s*(\d+(?:\.\d+)?)px")
_SCHEME: Final = re.compile(r"prefers-color-scheme\s*:\s*(light|dark)")
_COMPOUND: Final = re.compile(
    r"([a-z][a-z0-9]*|\*)?((?:[.#][\w-]+|\[[\w-]+(?:[~^|*$]?=[^\]]+)?\])*)", re.ASCII
)
_PART: Final = re.compile(r"([.#])([\w-]+)|\[([\w-]+)(?:([~^|*$]?=)[\"']?([^\]\"']*)[\"']?)?\]")

_Declaration = tuple[str, str, bool]
"""A property, its value, and whether it is important."""


class Breaks(Enum):
    """Where a word may break."""

    NOWHERE = 0
    IF_NEEDED = 1
    """In a line that is too narrow for it; a table column still grows to hold the whole word."""
    ANYWHERE = 2


class Style(Struct, frozen=True):
    """The computed style of an element. Lengths are in CSS pixels."""

    own: dict[str, str]
    """The declarations for the element itself, shorthand properties expanded."""
    display: str
    font_pixels: float
    letter_spacing: float
    is_monospace: bool
    is_bold: bool
    wraps: bool
    keeps_lines: bool
    breaks: Breaks

    def length(self, name: str, *, within: float | None = None) -> float | None:
        """Return a declared length, percentages as a share of `within`; None if it is not a known length."""
        return pixels(self.own.get(name, ""), self.font_pixels, within=within)

    def side(self, side: str, *, within: float | None = None) -> float:
        """Return padding and border of a side."""
        padding = self.length(f"padding-{side}", within=within) or 0.0
        return padding + (self.length(f"border-{side}-width") or 0.0)

    def margin(self, side: str) -> float:
        """Return the margin of a side; an automatic one counts as 0."""
        return self.length(f"margin-{side}") or 0.0


class _Compound(Struct, frozen=True):
    """The part of a selector that describes one element."""

    tag: str
    classes: frozenset[str]
    identifier: str
    attributes: tuple[tuple[str, str, str], ...]
    is_child: bool
    """Whether the element before it in the selector has to be its parent."""

    @property
    def names(self) -> frozenset[str]:
        """What `_names` of an element must contain."""
        tag, identifier = {self.tag} - {"", "*"}, {f"#{self.identifier}"} if self.identifier else set()
        return frozenset(tag | identifier | {f".{one}" for one in self.classes})

    def matches(self, element: etree._Element) -> bool:
        if self.tag not in ("", "*", element.tag):
            return False
        if self.identifier and element.get("id") != self.identifier:
            return False
        if self.classes and not self.classes <= set((element.get("class") or "").split()):
            return False
        return all(_has(element, *attribute) for attribute in self.attributes)


class _Rule(Struct, frozen=True):
    selector: tuple[_Compound, ...]
    declarations: tuple[_Declaration, ...]
    specificity: tuple[int, int, int]
    own: frozenset[str]
    """What `_names` of the element must contain."""
    above: frozenset[str]
    """What those of the elements around it must contain, together."""


class _Screen(Struct, frozen=True):
    width: int
    is_dark: bool

    def meets(self, query: str) -> bool:
        """Return whether a media query applies."""
        return any(self._meets_all(one.strip().lower()) for one in query.split(","))

    def _meets_all(self, query: str) -> bool:
        parts = re.split(r"\s+and\s+", query.removeprefix("only ").strip())
        return all(self._meets(part.strip("() ")) for part in parts)

    def _meets(self, condition: str) -> bool:
        if condition in ("all", "screen", ""):
            return True
        if scheme := _SCHEME.fullmatch(condition):
            return (scheme[1] == "dark") == self.is_dark
        limit = _LIMIT.fullmatch(condition)
        if limit is None:
            return False
        return self.width >= float(limit[2]) if limit[1] == "min" else self.width <= float(limit[2])


class Cascade:
    """The styles of one document on a screen of one width, in a light or a dark theme."""

    def __init__(self, root: etree._Element, width: int, *, dark: bool = False) -> None:
        screen = _Screen(width, dark)
        self._styles: dict[etree._Element, Style] = {}
        self._above: dict[etree._Element, frozenset[str]] = {}
        self._rules: dict[str, list[_Rule]] = {}
        number = 0
        for sheet in root.iter("style"):
            if screen.meets(sheet.get("media") or "all"):
                for rule in _rules_of("".join(map(str, sheet.itertext())), screen):
                    number += 1
                    last = rule.selector[-1]
                    key = next(iter(sorted(last.classes)), last.tag or "*")
                    if number <= _MAX_RULES:
                        self._rules.setdefault(key, []).append(rule)

    def style(self, element: etree._Element) -> Style:
        """Return the computed style of an element."""
        known = self._styles.get(element)
        if known is None:
            above = element.getparent()
            known = self._computed(element, None if above is None else self.style(above))
            self._styles[element] = known
        return known

    def _computed(self, element: etree._Element, parent: Style | None) -> Style:
        tag, own = str(element.tag), self._declared(element)
        font = _font_pixels(tag, own, parent)
        space = own.get("white-space", "")
        wraps = parent.wraps if parent and not space else space not in ("nowrap", "pre")
        lines = parent.keeps_lines if parent and not space else space.startswith("pre")
        family, weight = own.get("font-family", ""), own.get("font-weight", "")
        spacing = pixels(own.get("letter-spacing", ""), font)
        return Style(
            own,
            own.get("display") or _DISPLAYS.get(tag, "block"),
            font,
            (parent.letter_spacing if parent else 0.0) if spacing is None else spacing,
            "mono" in family if family else parent is not None and parent.is_monospace,
            _is_bold(weight) if weight else parent is not None and parent.is_bold,
            wraps,
            lines,
            _breaks(own, parent),
        )

    def _declared(self, element: etree._Element) -> dict[str, str]:
        own: dict[str, str] = {}
        _apply(own, _parsed(_DEFAULTS.get(str(element.tag), "")))
        _apply(own, _of_attributes(element))
        normal: list[_Declaration] = []
        for rule in sorted(self._matching(element), key=lambda rule: rule.specificity):
            normal += rule.declarations
        every = [*normal, *_parsed(element.get("style") or "")]
        _apply(own, [one for one in every if not one[2]])
        _apply(own, [one for one in every if one[2]])
        return own

    def _matching(self, element: etree._Element) -> Iterator[_Rule]:
        own, above = _names(element), self._names_above(element)
        for key in (*(element.get("class") or "").split(), str(element.tag), "*"):
            for rule in self._rules.get(key, ()):
                # Most rules are for other elements, and comparing names is quicker than walking up the tree.
                if rule.own <= own and rule.above <= above and _selects(rule.selector, element):
                    yield rule

    def _names_above(self, element: etree._Element) -> frozenset[str]:
        """Return the names of all elements around this one."""
        if element not in self._above:
            parent = element.getparent()
            self._above[element] = (
                frozenset() if parent is None else _names(parent) | self._names_above(parent)
            )
        return self._above[element]


def pixels(value: str, font: float, *, within: float | None = None) -> float | None:
    """Return a CSS length in pixels; None for keywords, functions and, without `within`, percentages."""
    found = _LENGTH.fullmatch(value)
    if found is None:
        return None
    number = float(found[1])
    match found[2]:
        case "em":
            return number * font
        case "rem":
            return number * _ROOT_FONT_PIXELS
        case "pt":
            return number * 4 / 3
        case "%":
            return None if within is None else number * within / 100
        case unit:
            return number if unit or not number else None


def _font_pixels(tag: str, own: dict[str, str], parent: Style | None) -> float:
    above = parent.font_pixels if parent else _ROOT_FONT_PIXELS
    size = own.get("font-size", "")
    if not size:
        return above * _HEADINGS.get(tag, 1.0)
    found = pixels(size, above, within=above)
    return above if found is None else found


def _is_bold(weight: str) -> bool:
    return weight in ("bold", "bolder") or (whole_number(weight) or 0) >= 600


def _breaks(own: dict[str, str], parent: Style | None) -> Breaks:
    word = own.get("word-break", "")
    wrap = own.get("overflow-wrap") or own.get("word-wrap", "")
    if word in ("break-word", "break-all") or wrap == "anywhere":
        return Breaks.ANYWHERE
    if wrap == "break-word":
        return Breaks.IF_NEEDED
    if word or wrap or parent is None:
        return Breaks.NOWHERE
    return parent.breaks


def _of_attributes(element: etree._Element) -> Iterator[_Declaration]:
    """Yield the declarations that the attributes of tables, images and fonts stand for."""
    if background := element.get("bgcolor"):
        yield "background-color", background, False
    if element.tag == "font" and (colour := element.get("color")):
        yield "color", colour, False
    width = (element.get("width") or "").strip()
    if width and element.tag in ("table", "td", "th", "img", "hr", "col", "pre"):
        yield "width", width if width.endswith("%") else f"{width.removesuffix('px')}px", False
    if element.get("nowrap") is not None and element.tag in ("td", "th"):
        yield "white-space", "nowrap", False
    if element.tag in ("td", "th"):
        table = next(element.iterancestors("table"), None)
        padding = table.get("cellpadding") if table is not None else None
        yield from _expanded("padding", f"{padding or 1}px", important=False)


def _apply(own: dict[str, str], declarations: Iterable[_Declaration]) -> None:
    for name, value, _ in declarations:
        own[name] = value


@lru_cache(maxsize=4_096)
def _parsed(css: str) -> tuple[_Declaration, ...]:
    """Return the declarations that bear on widths and colours: name, value, and whether it is important."""
    return tuple(_parse(css))


def _parse(css: str) -> Iterator[_Declaration]:
    for declaration in css.split(";"):
        name, colon, value = declaration.partition(":")
        name = name.strip().lower()
        if not colon or not _KEPT.fullmatch(name):
            continue
        value = value.strip().lower()
        important = value.endswith("!important")
        yield from _expanded(name, value.removesuffix("!important").strip(), important=important)


def _expanded(name: str, value: str, *, important: bool) -> Iterator[_Declaration]:
    """Yield a declaration, or the longhand declarations that it abbreviates."""
    words = value.split()
    if name in ("padding", "margin") and words:
        top, right = words[0], words[min(1, len(words) - 1)]
        bottom = words[2] if len(words) > 2 else top
        four = (top, right, bottom, words[3] if len(words) > 3 else right)
        for side, width in zip(_SIDES, four, strict=True):
            yield f"{name}-{side}", width, important
    elif found := re.fullmatch(r"border(?:-(top|right|bottom|left))?(?:-width)?", name):
        width = next((word for word in words if _LENGTH.fullmatch(word)), "3px")
        for side in [found[1]] if found[1] else _SIDES:
            yield f"border-{side}-width", "0px" if "none" in words else width, important
    elif name == "font":
        if size := re.search(r"(?:^|\s)(\d*\.?\d+(?:px|pt|em|rem|%))", value):
            yield "font-size", size[1], important
    elif name == "background":
        yield "background-color", words[0] if words else "", important
    else:
        yield name, value, important


def _rules_of(css: str, screen: _Screen) -> Iterator[_Rule]:
    """Yield the rules of a style sheet that apply on a screen."""
    for prelude, block in blocks(re.sub(r"/\*.*?(?:\*/|\Z)", "", css, flags=re.DOTALL)):
        if prelude.startswith("@media"):
            if screen.meets(prelude.removeprefix("@media")):
                yield from _rules_of(block, screen)
        elif prelude.startswith("@supports"):
            yield from _rules_of(block, screen)
        elif not prelude.startswith("@") and (declarations := _parsed(block)):
            for text in prelude.split(","):
                if selector := _selector(text.strip()):
                    own, above = selector[-1].names, (one.names for one in selector[:-1])
                    yield _Rule(
                        selector, declarations, _specificity(selector), own, frozenset().union(*above)
                    )


def blocks(css: str) -> Iterator[tuple[str, str]]:
    """Yield the texts before and inside the braces of each top-level block; `css` has no comments."""
    depth, start, opened = 0, 0, 0
    for found in re.finditer(r"[{}]", css):
        if found[0] == "{":
            if depth == 0:
                opened = found.start()
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                # A statement without a block, such as @import, may come first.
                yield css[start:opened].rpartition(";")[2].strip(), css[opened + 1 : found.start()]
                start = found.end()
        else:
            start = found.end()


@lru_cache(maxsize=4_096)
def _selector(text: str) -> tuple[_Compound, ...]:
    """Return the parts of a selector; none if it is of a kind that is not understood."""
    out: list[_Compound] = []
    is_child = False
    for word in re.sub(r"\s*>\s*", " > ", text).split():
        if word == ">":
            is_child = True
            continue
        found = _COMPOUND.fullmatch(word)
        if found is None:
            return ()
        parts = list(_PART.finditer(found[2] or ""))
        out.append(
            _Compound(
                found[1] or "",
                frozenset(part[2] for part in parts if part[1] == "."),
                next((part[2] for part in parts if part[1] == "#"), ""),
                tuple((part[3], part[4] or "", part[5] or "") for part in parts if part[3]),
                is_child,
            )
        )
        is_child = False
    return tuple(out)


def _specificity(selector: tuple[_Compound, ...]) -> tuple[int, int, int]:
    return (
        sum(bool(one.identifier) for one in selector),
        sum(len(one.classes) + len(one.attributes) for one in selector),
        sum(one.tag not in ("", "*") for one in selector),
    )


def _names(element: etree._Element) -> frozenset[str]:
    """Return an element's tag, `#id` and `.classes`."""
    identifier, classes = element.get("id"), (element.get("class") or "").split()
    return frozenset((str(element.tag), f"#{identifier}", *(f".{one}" for one in classes)))


def _selects(selector: tuple[_Compound, ...], element: etree._Element) -> bool:
    if not selector[-1].matches(element):
        return False
    at = len(selector) - 1
    above: etree._Element | None = element.getparent()
    while at > 0 and above is not None:
        if selector[at - 1].matches(above):
            at -= 1
        elif selector[at].is_child:
            return False
        above = above.getparent()
    return at == 0


def _has(element: etree._Element, name: str, how: str, value: str) -> bool:
    held = element.get(name)
    if held is None or not how:
        return held is not None
    match how:
        case "=":
            return held == value
        case "~=":
            return value in held.split()
        case "^=":
            return held.startswith(value)
        case "$=":
            return held.endswith(value)
        case "|=":
            return held == value or held.startswith(f"{value}-")
        case _:
            return value in held
