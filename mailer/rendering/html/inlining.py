"""Move style rules onto the elements they match, with premailer."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

import cssutils

from mailer.rendering.html.line_breaks import with_wbr, without_wbr


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Let modules import an empty module in the place of `name`, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


# Premailer uses it only to load style sheets from the network, which it may not do here, and it takes longer
# to import than an issue to inline.
with _left_out("requests"):
    from premailer import Premailer

_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_RULE: Final = re.compile(r"([^{}]+)\{([^{}]*)\}")
_ATTRIBUTE: Final = re.compile(r"\[[^\]]*\]")
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*")
_STYLE_ELEMENT: Final = re.compile(r"<style\b.*?</style>", re.DOTALL)
_IMPLIED: Final = frozenset({"html", "head", "body", "p"})
"""Elements that the parser of HTML adds."""


def inlined(html: str, css: str) -> str:
    """Return `html` with the rules of `css` in the `style` attributes of the elements they match.

    `<style>` elements marked `data-premailer="ignore"` stay as they are. Nothing is loaded from the
    network or from disk; `css` must have no `@import`, which cssutils would follow to local files.
    """
    # cssutils logs unknown properties, of which email has many.
    cssutils.log.setLevel(logging.CRITICAL)
    # Without profiles cssutils does not validate values. Premailer validates style attributes whatever its
    # options say, and compiling the grammars takes longer than all the inlining.
    cssutils.profile.removeProfile(all=True)
    result: str = Premailer(
        without_wbr(html),
        css_text=_one_by_one(needed(css, html)),
        strip_important=False,
        allow_network=False,
        disable_validation=True,
        align_floating_images=False,
        disable_basic_attributes=["width", "height", "bgcolor", "align", "valign"],
    ).transform(pretty_print=False)
    return with_wbr(result)


def needed(css: str, html: str) -> str:
    """Return `css` without the selectors that cannot match, because a name in them is not in `html`.

    Parsing a rule takes premailer longer than anything else, and most issues use few of them.
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


def _one_by_one(css: str) -> list[str]:
    """Return the rules one by one, because premailer keeps what it has parsed and issues share most rules.

    Pseudo-classes and at-rules stay in one sheet with all the others: premailer writes them into `<style>`.
    """
    rules = [(found[0], found[1]) for found in _RULE.finditer(css)]
    if _RULE.sub("", css).strip() or any(":" in selectors or "@" in selectors for _, selectors in rules):
        return [css]
    return [rule for rule, _ in rules]
