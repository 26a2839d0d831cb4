"""Styles put on the elements by premailer, and what it works out of style sheets kept for the next time.

Premailer has cssutils read each style sheet, and each inline style. That takes longer than all the rest of
an issue, and only the texts decide what comes of it: so it is kept, in memory and in the user's cache
folder, and cssutils is loaded when a text is new. A kept result that cannot be read or written is made anew.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import re
import sys
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from lxml import etree

from mailer.errors import SourceError
from mailer.rendering.kept import cache_folder, put

Rule = tuple[tuple[int, ...], str, str]
"""How much it weighs, its selector, and its declarations."""
_MAX_SHEETS: Final = 16
_MAX_STYLES: Final = 2_000


def inlined(html: str, css: str) -> str:
    """Return a document with the rules of `css` on its elements; nothing is loaded from anywhere.

    Raises `SourceError` for a pseudo-class, which no element can carry.
    """
    result: str = _Inliner(
        html,
        css_text=[css],
        strip_important=False,
        allow_network=False,
        disable_validation=True,
        align_floating_images=False,
        disable_basic_attributes=["width", "height", "bgcolor", "align", "valign"],
        cache_css_parsing=False,
    ).transform(pretty_print=False)
    _kept().save()
    _current.tree = None
    return result


class Kept:
    """What cssutils made of style sheets and styles, in memory and in a file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._made_by = [version(name) for name in ("cssutils", "premailer")]
        self._new = False
        self.sheets: dict[str, list[Rule]] = {}
        self.styles: dict[str, list[tuple[str, str]]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            found = json.loads(file.read_bytes()) if file is not None else {}
            if found["made_by"] == self._made_by:
                self.sheets = {
                    css: [(tuple(weight), selector, bulk) for weight, selector, bulk in rules]
                    for css, rules in found["sheets"].items()
                }
                self.styles = {
                    css: [(name, value) for name, value in pairs] for css, pairs in found["styles"].items()
                }

    def add_sheet(self, css: str, rules: list[Rule]) -> None:
        """Note the rules of a style sheet."""
        if len(self.sheets) >= _MAX_SHEETS:
            self.sheets.clear()
        self.sheets[css], self._new = rules, True

    def add_style(self, css: str, pairs: list[tuple[str, str]]) -> None:
        """Note the names and values of an inline style."""
        if len(self.styles) >= _MAX_STYLES:
            self.styles.clear()
        self.styles[css], self._new = pairs, True

    def save(self) -> None:
        """Write what came new to the file."""
        if self._file is None or not self._new:
            return
        self._new = False
        content = {"made_by": self._made_by, "sheets": self.sheets, "styles": self.styles}
        put(self._file, json.dumps(content).encode())


@cache
def _kept() -> Kept:
    folder = cache_folder()
    return Kept(folder and folder / "styles.json")


class _Later(ModuleType):
    """A module that is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def _xpath(selector: str) -> Any:
    """Return what finds the elements of any selector."""
    from lxml.cssselect import CSSSelector

    return CSSSelector(selector)


def _premailer() -> tuple[ModuleType, ModuleType]:
    """Return premailer's modules, which get what they import only when they use it.

    cssutils reads what is not kept, and lxml.cssselect the selectors that are not looked up. requests would
    fetch style sheets from the web: we give every style sheet as text and allow no network, so it is never
    loaded.
    """
    wanted = {name: _Later(name) for name in ("cssutils", "lxml.cssselect", "requests")}
    wanted["lxml.cssselect"].__dict__["CSSSelector"] = _xpath
    loaded = {name: sys.modules.get(name) for name in wanted}
    sys.modules |= wanted
    try:
        from premailer import merge_style, premailer
    finally:
        for name, module in loaded.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module
    return premailer, merge_style


_transforming, _merging = _premailer()
_read_style: Any = _merging.csstext_to_pairs
_Premailer: Any = _transforming.Premailer


def _style(css: str, validate: bool = True) -> list[tuple[str, str]]:
    """Return the names and values of a style, as premailer's own function of this place does."""
    kept = _kept()
    pairs = kept.styles.get(key := f"{validate:d}{css}")
    if pairs is None:
        _quieten()
        pairs = _read_style(css, validate)
        kept.add_style(key, pairs)
    return pairs


# Premailer's own finds its lock by its name, which is ours now.
_style._lock = _read_style._lock  # type: ignore[attr-defined]
_merging.csstext_to_pairs = _style  # type: ignore[attr-defined]
_transforming.csstext_to_pairs = _style  # type: ignore[attr-defined]


def _quieten() -> None:
    """Let cssutils keep to itself what it thinks of properties that it does not know."""
    import cssutils

    cssutils.log.setLevel(logging.CRITICAL)


class _Inliner(_Premailer):  # type: ignore[misc]
    """Premailer that reads a style sheet once."""

    def _parse_style_rules(self, css_body: str, ruleset_index: int) -> tuple[list[Rule], list[Any]]:
        kept = _kept()
        rules = kept.sheets.get(key := f"{ruleset_index}{css_body}")
        if rules is None:
            _quieten()
            rules, leftover = super()._parse_style_rules(css_body, ruleset_index)
            if leftover:
                raise SourceError(
                    "inline.css.j2: a pseudo-class cannot be put on an element",
                    remedy="move it to head.css.j2",
                )
            kept.add_sheet(key, rules)
        return rules, []


_SIMPLE: Final = re.compile(r"(?:[a-z][a-z0-9]*)?(?:\.[A-Za-z_][\w-]*)*")


def _selector(selector: str) -> Callable[[Any], list[Any]]:
    """Return what finds the elements of a selector, in the order of the document, as premailer's own does.

    Elements and classes within one another are looked up; an XPath, which goes through the document for
    each, is for the others.
    """
    chain = _chain(selector)
    if not chain:
        return _xpath(selector)  # type: ignore[no-any-return]
    if chain == (selector,) and "." not in selector:
        # Premailer asks so for the head and the style sheets, too, while it takes those out.
        return lambda page: list(page.iter(selector))
    return lambda page: _tree_of(page).matching(chain)


@lru_cache(maxsize=1024)
def _chain(selector: str) -> tuple[str, ...]:
    """Return the parts of a selector by names and classes within one another; nothing for any other."""
    chain = tuple(selector.split())
    return chain if all(_SIMPLE.fullmatch(part) for part in chain) else ()


_transforming._create_cssselector = _selector  # type: ignore[attr-defined]


class _Tree:
    """The elements of a document by name and by class."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self._all: list[Any] = list(page.iter(etree.Element))
        self._tags: dict[str, list[Any]] = {}
        self._classes: dict[str, list[Any]] = {}
        self._below: dict[tuple[str, ...], set[Any]] = {}
        for element in self._all:
            self._tags.setdefault(element.tag, []).append(element)
            if names := element.get("class"):
                for name in set(names.split()):
                    self._classes.setdefault(name, []).append(element)

    def matching(self, chain: tuple[str, ...]) -> list[Any]:
        """Return the elements that fit the last part and stand below others that fit those before it."""
        tag, *classes = chain[-1].split(".")
        found = self._tags.get(tag, []) if tag else self._classes.get(classes.pop(), [])
        for name in classes:
            found = [element for element in found if element in self._classes.get(name, ())]
        if not found or len(chain) == 1:
            return found
        below = self._descendants(chain[:-1])
        return [element for element in found if element in below]

    def _descendants(self, chain: tuple[str, ...]) -> set[Any]:
        below = self._below.get(chain)
        if below is None:
            below = self._below[chain] = {
                element for above in self.matching(chain) for element in above.iterdescendants(etree.Element)
            }
        return below


_current = threading.local()


def _tree_of(page: Any) -> _Tree:
    tree: _Tree | None = getattr(_current, "tree", None)
    if tree is None or tree.page is not page:
        # Premailer takes style sheets out of the document before it looks for the first rule's elements,
        # and changes nothing until it has all of them.
        tree = _current.tree = _Tree(page)
    return tree
