"""Variants of a message's HTML for previews: light or dark, with links that open in new tabs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

_STYLES: Final = re.compile(r"(<style\b[^>]*>)(.*?)(</style\s*>)|<(?:source|link|meta)\b[^>]*>", re.I | re.S)
_QUESTION: Final = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(light|dark)\s*\)", re.I)
_HEAD_END: Final = re.compile(r"</head\s*>", re.I)
_YES: Final = "(min-width: 0px)"
_NO: Final = "(max-width: 0px)"


class Scheme(StrEnum):
    """The colour scheme that a device prefers."""

    LIGHT = "light"
    DARK = "dark"


def in_scheme(html: str, scheme: Scheme) -> str:
    """Return the HTML as a device that prefers `scheme` shows it, whatever this machine prefers.

    Each `prefers-color-scheme` in a style sheet or a `media` attribute becomes a query whose result
    is known. Text of the issue that looks the same is not changed.
    """

    def answered(found: re.Match[str]) -> str:
        return _QUESTION.sub(lambda asked: _YES if asked[1].lower() == scheme else _NO, found[0])

    return _into_head(
        _STYLES.sub(answered, html), f"<style>:root {{ color-scheme: {scheme} !important; }}</style>"
    )


def with_links_beside(html: str) -> str:
    """Return the HTML with links that open in new tabs."""
    return _into_head(html, '<base target="_blank">')


def _into_head(html: str, element: str) -> str:
    end = _HEAD_END.search(html)
    return html + element if end is None else html[: end.start()] + element + html[end.start() :]
