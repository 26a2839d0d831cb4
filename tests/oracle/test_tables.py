"""Tables of every size can be read on a phone, in Chromium, with and without media queries."""

from __future__ import annotations

import functools
import re
from typing import Literal

import pytest
from playwright.sync_api import Page

from tests.rendering.scene import edition, received

pytestmark = pytest.mark.servers
CELLS = {
    "short": "tea",
    "long": "Donaudampfschifffahrt",
    "cjk": "這是一個很長的句子沒有空格",
    "address": "https://example.org/a/rather/long/path/to/a/page-of-beans.html",
    "code": "`mailer.rendering.html.document`",
    "amount": "1,234.50 €",
    "words": "several words in a cell",
    "hyphens": "eu-west and/or us-east-1a",
    "mixed": "see https://example.org/a/rather/long/path or ops@example.com otherwise",
    "identifier": "mailer_queue_production_primary_0001",
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
}
WIDTHS = (320, 375, 700)
WIDER = """() => {
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
# Words as a reader sees them: runs without white space, East Asian text excepted.
_BROKEN_WORDS = """() => {
    const broken = [];
    const words = new RegExp('[^\\\\s\\\\u2e80-\\\\u9fff\\\\uff00-\\\\uffef]+', 'g');
    for (const cell of document.querySelectorAll('table.data td, table.data th')) {
        const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        const letters = [];
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (node.parentElement.closest('.label')) continue;
            for (let at = 0; at < node.length; at++) letters.push([node, at]);
        }
        const text = letters.map(([node, at]) => node.data[at]).join('');
        for (const word of text.matchAll(words)) {
            const [first, last] = [letters[word.index], letters[word.index + word[0].length - 1]];
            const [top, bottom] = [first, last].map(([node, at]) => {
                const range = document.createRange();
                range.setStart(node, at);
                range.setEnd(node, at + 1);
                return range.getClientRects()[0];
            });
            if (top && bottom && Math.abs(top.top - bottom.top) > 4) broken.push(word[0]);
        }
    }
    return broken;
}"""
_BROKEN_AMOUNTS = """() => [...document.querySelectorAll('.amount')]
    .filter(e => { const range = document.createRange(); range.selectNodeContents(e.lastChild);
                   return range.getClientRects().length > 1; }).length"""


@functools.cache
def html_of(columns: int, kind: str, direction: str = "") -> str:
    cells = [list(CELLS)[(column + list(CELLS).index(kind)) % len(CELLS)] for column in range(columns)]
    cells = [kind if column % 2 == 0 else cell for column, cell in enumerate(cells)]
    head = "|".join(f" Head {number} " for number in range(columns))
    row = "|".join(f" {CELLS[cell]} " for cell in cells)
    body = f"Before the table.\n\n|{head}|\n|{'---|' * columns}\n|{row}|\n|{row}|\n\nAfter the table.\n"
    return received(edition(body, language=direction or "en")).html


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("columns", range(2, 9))
def test_nothing_is_wider_than_the_screen_and_no_amount_or_short_word_is_broken(
    page: Page, columns: int, kind: str
) -> None:
    page.set_content(html_of(columns, kind))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 600})
        assert (width, []) == (width, page.evaluate(WIDER))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(_BROKEN_AMOUNTS) == 0
    for width in (700, 520):
        page.set_viewport_size({"width": width, "height": 600})
        assert [word for word in page.evaluate(_BROKEN_WORDS) if len(word) <= 12] == []


@pytest.mark.parametrize("kind", CELLS)
def test_no_short_word_is_broken_without_media_queries_and_wbr(page: Page, kind: str) -> None:
    html = re.sub(r"<style.*?</style>|<wbr ?/?>", "", html_of(5, kind), flags=re.DOTALL)
    page.set_content(html)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 600})
        assert [word for word in page.evaluate(_BROKEN_WORDS) if len(word) <= 12] == []


def test_long_word_breaks_after_a_sign(page: Page) -> None:
    page.set_content(html_of(4, "address"))
    page.set_viewport_size({"width": 700, "height": 600})
    assert {CELLS["address"]} == set(page.evaluate(_BROKEN_WORDS)) - {"mailer.rendering.html.document"}
    pieces = page.locator(".long .whole").all_inner_texts()
    assert {"https://", "example.", "rather/"} <= set(pieces)


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_of_a_stacked_table_have_the_colour_of_the_theme(
    page: Page, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 375, "height": 900})
    wide = (
        "| a | b | c |\n|---|---|---|\n| several words in a cell | "
        + f"{CELLS['address']} | {CELLS['long']} |\n"
    )
    page.set_content(edition(f"{wide}\n---\n").html)
    lines = page.evaluate(
        "() => ['table.data tbody tr', 'hr'].map(one => getComputedStyle(document.querySelector(one)))"
        ".map(style => style.borderBottomWidth != '0px' ? style.borderBottomColor : style.borderTopColor)"
    )
    page.emulate_media(color_scheme=None)
    assert lines[0] == lines[1]
