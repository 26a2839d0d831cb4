"""Tables of every size can be read on a phone, in Chromium, with and without media queries."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.rendering.scene import edition, received

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("chromium")]
CELLS = {
    "short": "tea",
    "long": "Donaudampfschifffahrt",
    "cjk": "這是一個很長的句子沒有空格",
    "address": "https://example.org/a/rather/long/path/to/a/page-of-beans.html",
    "code": "`mailer.rendering.html.document`",
    "amount": "1,234.50 €",
    "words": "several words in a cell",
}
WIDTHS = (320, 375, 700)
_WIDER = """() => {
    const wide = [...document.body.querySelectorAll('*')].filter(e => {
        const box = e.getBoundingClientRect();
        const style = getComputedStyle(e);
        const hides = style.display != 'inline' && style.overflowX != 'visible';
        const outside = box.right > innerWidth + 1 || box.left < -1;
        const held = e.closest('.scroll') !== null;
        return box.width > 0 && (hides ? e.scrollWidth > e.clientWidth + 1 : outside && !held);
    });
    return wide.map(e => e.tagName + '.' + e.className).slice(0, 5);
}"""
_BROKEN_AMOUNTS = """() => [...document.querySelectorAll('.amount')]
    .filter(e => { const range = document.createRange(); range.selectNodeContents(e.lastChild);
                   return range.getClientRects().length > 1; }).length"""


def html_of(columns: int, kind: str, direction: str = "") -> str:
    cells = [list(CELLS)[(column + list(CELLS).index(kind)) % len(CELLS)] for column in range(columns)]
    cells = [kind if column % 2 == 0 else cell for column, cell in enumerate(cells)]
    head = "|".join(f" Head {number} " for number in range(columns))
    row = "|".join(f" {CELLS[cell]} " for cell in cells)
    body = f"Before the table.\n\n|{head}|\n|{'---|' * columns}\n|{row}|\n|{row}|\n\nAfter the table.\n"
    return received(edition(body, language=direction or "en")).html


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("columns", range(2, 9))
def test_nothing_is_wider_than_the_screen_and_no_amount_is_broken(
    page: Page, columns: int, kind: str
) -> None:
    page.set_content(html_of(columns, kind))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 600})
        # Eight amounts that may not break are wider than a page: the table scrolls by itself.
        scrolls = (columns, kind, width) == (8, "amount", 700)
        assert (width, ["DIV.scroll"] if scrolls else []) == (width, page.evaluate(_WIDER))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_BROKEN_AMOUNTS) == 0


@pytest.mark.parametrize("kind", ["long", "address", "code", "words"])
def test_client_without_media_queries_shows_every_word(page: Page, kind: str) -> None:
    page.set_content(re.sub(r"<style.*?</style>", "", html_of(5, kind), flags=re.DOTALL))
    page.set_viewport_size({"width": 320, "height": 600})
    box = page.locator("text=After the table").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 320


def test_stacked_cell_names_its_column(page: Page) -> None:
    page.set_content(html_of(6, "words"))
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.locator("span.label:visible").count() == 12
    assert page.locator("thead:visible").count() == 0
    page.set_viewport_size({"width": 700, "height": 600})
    assert page.locator("span.label:visible").count() == 0
    assert page.locator("th:visible").count() == 6


def test_right_to_left_table_starts_at_the_right(page: Page) -> None:
    page.set_content(html_of(3, "short", "he"))
    page.set_viewport_size({"width": 700, "height": 600})
    lefts = page.evaluate("[...document.querySelectorAll('th')].map(e => e.getBoundingClientRect().left)")
    assert lefts == sorted(lefts, reverse=True)
