"""Keep `<wbr>` away from libxml2, which does not know that it is empty.

It would put everything after a `<wbr>` inside it, and lose what is nested more than 255 deep: the rest of an
issue after a long address. While HTML is parsed, a comment therefore replaces each `<wbr>`.
"""

from __future__ import annotations

import re
from typing import Final

from lxml import etree

_COMMENT: Final = "<!--wbr-->"
_FOUND: Final = re.compile(r"<!--.*?-->|</?wbr\b[^>]*>", re.DOTALL | re.IGNORECASE)


def without_wbr(html: str) -> str:
    """Return the HTML with comments for its `<wbr>`s; those inside comments, such as Outlook's, stay."""

    def replaced(found: re.Match[str]) -> str:
        if found[0].startswith("<!--"):
            return found[0]
        return "" if found[0].startswith("</") else _COMMENT

    return _FOUND.sub(replaced, html)


def with_wbr(html: str) -> str:
    """Return the HTML of `without_wbr` with its `<wbr>`s again."""
    return html.replace(_COMMENT, "<wbr>")


def parsed(html: str) -> etree._Element | None:
    """Return the document's root, in which `<wbr>`s are empty elements; None for an empty document."""
    root: etree._Element | None = etree.fromstring(
        without_wbr(html).encode(), etree.HTMLParser(encoding="utf-8")
    )
    for comment in list(root.iter(etree.Comment)) if root is not None else ():
        parent = comment.getparent()
        if comment.text == "wbr" and parent is not None:
            element = etree.Element("wbr")
            element.tail = comment.tail
            parent.replace(comment, element)
    return root
