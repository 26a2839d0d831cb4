"""Make one inlined HTML document from filled-in MJML and a body."""

from __future__ import annotations

import re
from html import escape
from typing import Final

from mailer.errors import SourceError
from mailer.rendering.html.inlining import inlined
from mailer.rendering.html.mjml import to_html
from mailer.rendering.templating.origins import Locate

BODY: Final = "xbodygoeshere"
# Without it, clients continue after the preheader and show the first words of the email.
_PADDING: Final = "&#847;&zwnj;&nbsp;" * 60
_KEPT: Final = ' data-premailer="ignore"'


def document(
    mjml: str,
    body: str,
    inline_css: str,
    head_css: str,
    preheader: str,
    place: str,
    *,
    locate: Locate | None = None,
) -> str:
    """Return the inlined document: MJML converted, `body` inserted, styles moved onto the elements.

    The body never passes through the MJML converter, which escapes attributes wrongly and drops
    white space; `mjml` contains `BODY` in its place. `place` names the template in errors, and `locate` the
    file and line behind a place in `mjml`.
    """
    _check_inline_css(inline_css)
    html = to_html(mjml, place, locate)
    if html.count(BODY) != 1:
        raise SourceError(
            f"{place}: the body appears {html.count(BODY)} times", remedy="write {{ body }} once"
        )
    html = html.replace("<!doctype html>", "<!DOCTYPE html>", 1)
    html = html.replace(BODY, body, 1)
    if preheader:
        hidden = f'<div class="preheader" style="{_HIDDEN}">{escape(preheader)}{_PADDING}</div>'
        html = re.sub(r"<body[^>]*>", lambda found: found[0] + hidden, html, count=1)
    head = f'{_META}<style type="text/css">{head_css}</style></head>'
    html = html.replace("</head>", head, 1).replace("<style", f"<style{_KEPT}")
    return inlined(html, inline_css).replace(_KEPT, "")


def _check_inline_css(css: str) -> None:
    """Raise `SourceError` for a rule that cannot go into a style attribute.

    `@import` in particular: the CSS parser would read the file that it names.
    """
    bare = _CSS_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), css)
    for pattern, what in ((_AT_RULE, "an @ rule"), (_PSEUDO_CLASS, "a pseudo-class")):
        if found := pattern.search(bare):
            line = bare.count("\n", 0, found.end()) + 1
            raise SourceError(
                f"inline.css.j2:{line} after filling: {what} cannot be put on an element",
                remedy="move it to head.css.j2",
            )


_AT_RULE: Final = re.compile("@")
_PSEUDO_CLASS: Final = re.compile(r"(?:^|\})[^{}:]*:(?=[^{}]*\{)")
_CSS_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)


_HIDDEN: Final = (
    "display:none;font-size:1px;line-height:1px;max-height:0;max-width:0;"
    "opacity:0;overflow:hidden;mso-hide:all"
)
_META: Final = (
    '<meta name="color-scheme" content="light dark">'
    '<meta name="supported-color-schemes" content="light dark">'
)
