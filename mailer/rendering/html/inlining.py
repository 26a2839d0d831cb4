"""Move style rules onto the elements they match."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from operator import itemgetter
from typing import Final, cast

import cssselect
from lxml import etree
from lxml.cssselect import LxmlHTMLTranslator

from mailer.rendering.html.line_breaks import with_wbr, without_wbr

_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE: Final = re.compile(r"([^{}]+)\{([^{}]*)\}")
_ATTRIBUTE: Final = re.compile(r"\[[^\]]*\]")
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*")
_STYLE_ELEMENT: Final = re.compile(r"<style\b.*?</style>", re.DOTALL)
_IMPLIED: Final = frozenset({"html", "head", "body", "p"})
"""Elements that the parser of HTML adds."""
# A semicolon may be inside quotes or brackets: url(data:image/png;base64,…).
_DECLARATION: Final = re.compile(r"""(?:[^;"'(]|"[^"]*"|'[^']*'|\((?:[^()"']|"[^"]*"|'[^']*')*\)|["'(])+""")
_IMPORTANCE: Final = " !important"
_IMPORTANT: Final = re.compile(r"!\s*important\s*$", re.IGNORECASE)


def inlined(html: str, css: str) -> str:
    """Return `html` with the rules of `css` in the `style` attributes of the elements they match.

    The `<style>` elements of `html` stay as they are. `css` has no at-rules and no pseudo-classes. As in
    browsers, a rule whose selector is not valid applies to nothing.
    """
    root = etree.fromstring(without_wbr(html).strip(), etree.HTMLParser())
    found: dict[etree._Element, dict[str, str]] = {}
    for _, path, declarations in sorted(_rules(needed(css, html)), key=itemgetter(0)):
        for element in cast("list[etree._Element]", root.xpath(path)):
            found.setdefault(element, {}).update(declarations)
    for element, styles in found.items():
        for name, value, important in _declarations(element.get("style") or ""):
            if important or not styles.get(name, "").endswith(_IMPORTANCE):
                styles[name] = _written(value, important=important)
        element.set("style", "; ".join(f"{name}:{value}" for name, value in styles.items()))
    has_doctype = html.lstrip()[:9].lower() == "<!doctype"
    document = root.getroottree() if has_doctype else root
    return with_wbr(etree.tostring(document, method="html", encoding="utf-8").decode())


def _rules(css: str) -> Iterator[tuple[tuple[bool, int, int, int], str, dict[str, str]]]:
    """Yield the precedence of each rule, the XPath of its elements, and its declarations.

    Rules of the same precedence come in order; important declarations come as a rule of their own.
    """
    for rule in _RULE.finditer(css):
        every = _declarations(rule[2])
        for important in (False, True):
            declarations = {
                name: _written(value, important=important) for name, value, told in every if told is important
            }
            if declarations:
                for specificity, path in _selectors(rule[1].strip()):
                    yield (important, *specificity), path, declarations


@cache
def _selectors(group: str) -> list[tuple[tuple[int, int, int], str]]:
    """Return the specificity of each selector in a group, and the XPath of the elements that it matches."""
    try:
        return [(one.specificity(), _XPATH.selector_to_xpath(one)) for one in cssselect.parse(group)]
    except cssselect.SelectorError:
        return []


_XPATH: Final = LxmlHTMLTranslator()


def _declarations(text: str) -> list[tuple[str, str, bool]]:
    """Return the names and values in a block of declarations, and whether they are important."""
    found = []
    for declaration in _DECLARATION.findall(_COMMENT.sub("", text)):
        name, _, value = declaration.partition(":")
        plain = _IMPORTANT.sub("", value)
        if name.strip() and plain.strip():
            found.append((name.strip().lower(), " ".join(plain.split()), plain != value))
    return found


def _written(value: str, *, important: bool) -> str:
    return value + _IMPORTANCE if important else value


def needed(css: str, html: str) -> str:
    """Return `css` without the selectors that cannot match, because a name in them is not in `html`.

    Looking for the elements of a rule takes long, and most issues use few of the rules.
    """
    there = {*(name.lower() for name in _NAME.findall(_STYLE_ELEMENT.sub("", html))), *_IMPLIED}

    def kept(rule: re.Match[str]) -> str:
        # An escape can spell a name in another way.
        if "\\" in rule[1]:
            return rule[0]
        can_match = [
            selector
            for selector in rule[1].split(",")
            if all(name.lower() in there for name in _NAME.findall(_ATTRIBUTE.sub("", selector)))
        ]
        return f"{','.join(can_match)}{{{rule[2]}}}" if can_match else ""

    return _RULE.sub(kept, _COMMENT.sub("", css))
