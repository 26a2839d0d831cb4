"""Features that email clients do not support, from caniemail's data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from mailer.rendering.lint.cascade import blocks

MAIN: Final = (
    "gmail/desktop-webmail", "gmail/ios", "gmail/android", "apple-mail/macos", "apple-mail/ios",
    "outlook/windows", "outlook/outlook-com", "outlook/macos", "outlook/ios", "outlook/android",
    "yahoo/desktop-webmail", "yahoo/ios", "yahoo/android",
)  # fmt: skip
"""The clients that count unless others are asked for, each with its platform."""
_NAMES: Final = {
    "aol": "AOL", "free-fr": "Free", "gmx": "GMX", "hey": "HEY", "ionos-1and1": "IONOS",
    "laposte": "La Poste", "mail-ru": "Mail.ru", "protonmail": "Proton Mail", "sfr": "SFR",
    "t-online-de": "T-Online", "web-de": "WEB.DE", "wp-pl": "WP",
}  # fmt: skip
_PLATFORMS: Final = {
    "desktop-webmail": "web", "mobile-webmail": "mobile web", "ios": "iOS", "android": "Android",
    "macos": "macOS", "windows": "Windows", "windows-mail": "Windows Mail", "outlook-com": "Outlook.com",
}  # fmt: skip
# Without these features a message is as readable, only plainer, so they need no warning.
GRACEFUL: Final = frozenset(
    [
        "border-radius",
        "float",
        "clear",
        "box-shadow",
        "text-shadow",
        "box-sizing",
        "overflow",
        "overflow-wrap",
        "word-wrap",
        "word-break",
        "word-spacing",
        "white-space",
        "hyphens",
        "tab-size",
        "cursor",
        "color-scheme",
        "font-kerning",
        "font-stretch",
        "outline",
        "outline-offset",
        "transition",
        "animation",
        "user-select",
        "resize",
        "orphans",
        "widows",
        "border-spacing",
        "table-layout",
        "text-overflow",
        "text-underline-offset",
        "text-decoration-thickness",
        "text-decoration-color",
        "text-decoration-style",
        "text-decoration-line",
        "text-decoration-skip-ink",
        "text-wrap",
        "text-justify",
        "text-align-last",
        "list-style-position",
        "max-height",
        "min-height",
        "min-width",
        "height",
        "object-fit",
        "object-position",
        "background-size",
        "background-repeat",
        "background-position",
        "background-clip",
        "background-origin",
        "accent-color",
        "abbr",
        "acronym",
        "bdi",
        "wbr",
        "ruby",
        "rt",
        "rp",
        "html",
        "body",
        # A list of fonts may continue with others.
        "system-ui",
        "ui-monospace",
        "ui-rounded",
        "ui-sans-serif",
        "ui-serif",
    ]
)

_KINDS: Final = ("properties", "values", "functions", "units", "elements", "attributes", "rules", "selectors")
_SELECTOR_SIGNS: Final = {">": "a child selector", "+": "a sibling selector", "~": "a sibling selector",
                          "[": "an attribute selector", ".": "a class selector", "#": "an id selector",
                          "*": "the universal selector", " ": "a descendant selector"}  # fmt: skip


class Feature(Struct, frozen=True):
    """Something that a message uses. `kind` and `name` are its place in the table."""

    kind: str
    name: str
    label: str
    """The author's name for it."""
    written: str
    """How it is written in the source."""
    is_progressive: bool = False
    """Whether it is in a style sheet, whose rules apply only in clients that support them."""

    @property
    def is_graceful(self) -> bool:
        """Whether a message is as readable without it."""
        return (
            self.is_progressive or self.name in GRACEFUL or self.kind in ("rules", "selectors", "attributes")
        )


class _ClientTable(Struct, frozen=True):
    clients: tuple[str, ...]
    features: Mapping[str, Mapping[str, str]]


@cache
def _table() -> _ClientTable:
    raw: dict[str, Any] = json.loads(
        Path(__file__).with_name("client_support.json").read_text(encoding="utf-8")
    )
    return _ClientTable(tuple(raw["clients"]), {kind: raw[kind] for kind in _KINDS})


def client_names() -> list[str]:
    """Return the names by which clients can be chosen, without their platforms."""
    return sorted({client.partition("/")[0] for client in _table().clients})


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Return the clients with these names (`gmail`, or `outlook/windows` for one platform).

    Raises `LookupError` for an unknown name, with the known ones.
    """
    out: list[str] = []
    for name in names:
        found = [one for one in _table().clients if name in (one, one.partition("/")[0])]
        if not found:
            near = get_close_matches(name, [*client_names(), *_table().clients], n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            known = ", ".join(client_names())
            raise LookupError(f"there is no email client '{name}'{hint}; choose from {known}")
        out += [one for one in found if one not in out]
    return tuple(out)


def lacking(feature: Feature, clients: Sequence[str], letter: str = "n") -> list[str]:
    """Return those of `clients` that do not support a feature; with `letter` "a", that do so in part."""
    letters = _table().features[feature.kind].get(feature.name, "")
    return [
        one
        for one, known in zip(_table().clients, letters, strict=False)
        if known == letter and one in clients
    ]


def described(clients: Sequence[str], among: Sequence[str]) -> str:
    """Return the names of clients, with their platforms where only some of those `among` are meant."""
    platforms: dict[str, list[str]] = {}
    for client in clients:
        name, _, platform = client.partition("/")
        platforms.setdefault(name, []).append(platform)
    out = []
    for name, some in platforms.items():
        shown = _NAMES.get(name, name.replace("-", " ").title())
        every = [client for client in among if client.partition("/")[0] == name]
        if len(some) < len(every):
            shown += f" ({', '.join(_PLATFORMS.get(one, one) for one in some)})"
        out.append(shown)
    return out[0] if len(out) == 1 else f"{', '.join(out[:-1])} and {out[-1]}"


def used_by_element(tag: str, declarations: Mapping[str, str]) -> Iterator[Feature]:
    """Yield the features of an element and of its own styles."""
    yield Feature("elements", tag, f"<{tag}>", f"<{tag}")
    for name, value in declarations.items():
        yield from _used_by_declaration(name, value.lower())


def used_by_attributes(names: Iterable[str]) -> Iterator[Feature]:
    """Yield the features of an element's attributes."""
    for name in names:
        yield Feature("attributes", name, f"the attribute {name}", f"{name}=")


def used_by_sheet(css: str) -> Iterator[Feature]:
    """Yield the features of a style sheet: at-rules, selectors and declarations."""
    for prelude, block in blocks(re.sub(r"/\*.*?(?:\*/|\Z)", "", css, flags=re.DOTALL)):
        if prelude.startswith("@"):
            rule = prelude.split(maxsplit=1)[0].lower()
            yield Feature("rules", rule, rule, rule)
            for name in re.findall(r"\(\s*([a-z-]+)", prelude.lower()):
                yield Feature("rules", f"{rule} ({name})", f"{rule} ({name})", rule)
            yield from used_by_sheet(block)
            continue
        yield from _used_by_selector(prelude)
        for declaration in block.split(";"):
            name, colon, value = declaration.partition(":")
            if colon:
                yield from _used_by_declaration(name.strip().lower(), value.strip().lower())


def _used_by_selector(text: str) -> Iterator[Feature]:
    for name in re.findall(r"::?[a-z-]+", text):
        yield Feature("selectors", name, name, name)
    bare = re.sub(r"\s*([>+~,])\s*", r"\1", re.sub(r"\[[^\]]*\]", "[", text.strip()))
    for sign in dict.fromkeys(bare):
        if label := _SELECTOR_SIGNS.get(sign):
            yield Feature("selectors", sign, label, sign)


def _used_by_declaration(name: str, value: str) -> Iterator[Feature]:
    if value.endswith("!important"):
        yield Feature("values", "!important", "!important", "!important")
        value = value.removesuffix("!important").strip()
    yield Feature("properties", name, name, name)
    yield Feature("values", f"{name}:{value}", f"{name}: {value}", value)
    for word in re.findall(r"(?<![\w-])(?:system-ui|ui-[a-z-]+)", value):
        yield Feature("values", word, f"the font {word}", word)
    for function in re.findall(r"([a-z-]+)\(", value):
        yield Feature("functions", function, f"{function}()", f"{function}(")
    for unit in re.findall(r"(?<![\w#.-])-?[\d.]+([a-z]+|%)", value):
        yield Feature("units", unit, f"the unit {unit}", value)
