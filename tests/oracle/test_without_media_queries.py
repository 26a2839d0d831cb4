"""Clients that ignore media queries, or all style sheets, show every word of an email on a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from mailer.config import load
from mailer.review import sample
from tests.conftest import PROJECT
from tests.oracle.test_tables import CELLS, WIDER, html_of

pytestmark = pytest.mark.servers
ISSUES = (*(PROJECT / "issues").glob("*.md"), *(PROJECT / "tests" / "oracle").glob("*.md"))
_STYLES = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)
_BLOCKS = re.compile(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}")

_SCROLL_AREAS = "() => [...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)"


def variants(html: str) -> Iterator[tuple[str, str]]:
    yield "no media queries", _STYLES.sub(lambda found: f"<style>{_BLOCKS.sub('', found[1])}</style>", html)
    yield "no style sheets", _STYLES.sub("", html)


def too_wide(page: Page, html: str) -> list[tuple[str, int, object]]:
    """Return what reaches beyond the screen or is hidden, with the variant and the width of the screen."""
    found: list[tuple[str, int, object]] = []
    for name, shown in variants(html):
        assert "@media" not in shown
        page.set_content(shown, wait_until="domcontentloaded")
        for width in (320, 375):
            page.set_viewport_size({"width": width, "height": 600})
            whole = page.evaluate("document.documentElement.scrollWidth")
            found += [(name, width, whole)] if whole > width else []
            # A table that cannot be narrower is a scroll area of its own: it widens nothing else.
            found += [(name, width, one) for one in page.evaluate(WIDER) if one != "DIV.scroll"]
            assert set(page.evaluate(_SCROLL_AREAS)) <= {"auto"}
    return found


@pytest.mark.parametrize("path", ISSUES, ids=lambda path: path.stem)
def test_issue_fits_phones_without_media_queries(page: Page, path: Path) -> None:
    page.route("**/*", lambda route: route.abort())
    settings = load(PROJECT / "config.toml", flags={"rendering": {"raw_html": True}})
    assert too_wide(page, sample.render(settings, path).html) == []


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("columns", [2, 3, 5, 8])
def test_table_fits_phones_without_media_queries(page: Page, columns: int, kind: str) -> None:
    assert too_wide(page, html_of(columns, kind)) == []
