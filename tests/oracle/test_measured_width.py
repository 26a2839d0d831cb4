"""Lint computes the width that an email needs as Chromium does: never too little, hardly too much."""

from __future__ import annotations

import re

import pytest
from lxml import etree
from playwright.sync_api import Page

from mailer.rendering.lint.width import Measurement
from tests.oracle.test_tables import CELLS, WIDTHS, html_of

pytestmark = pytest.mark.servers
FEW_PIXELS = 4
# Text is measured in a wide font.
MOST = 1.2
LONG_WORD = "Donaudampfschifffahrtsgesellschaftskapitaen"
SNIPPETS = {
    "code that keeps its lines": f'<pre style="white-space:pre">{"x = 1234 and more " * 4}</pre>',
    "text that may not wrap": f'<p style="white-space:nowrap">{"some words in a row " * 5}</p>',
    "long word": f'<p style="word-break:normal">{LONG_WORD}</p>',
    "long word in a heading": f'<h2 style="word-break:normal">{LONG_WORD}</h2>',
    "long word in three elements": f'<p style="word-break:normal">{LONG_WORD}<b>{LONG_WORD}</b><i>x</i></p>',
    "address": '<p style="word-break:normal"><a href="x">https://example.org/a/rather/long/path_of_beans</a></p>',
    "hyphens": f'<p style="word-break:normal">{"twenty-" * 12}one</p>',
    "Cyrillic word": f'<p style="word-break:normal">{"Достопримечательности" * 2}</p>',
    "letters set apart": f'<p style="word-break:normal;letter-spacing:5px">{"x" * 30}</p>',
    "fixed width": '<div style="width:500px;padding:10px;margin:0 20px">x</div>',
    "width with padding": '<div style="width:400px;padding:50px;box-sizing:border-box">x</div>',
    "limited width": '<div style="width:500px;max-width:100%">x</div>',
    "floating box": '<div style="float:left;width:400px">x</div>',
    "table of fixed width": '<table width="450"><tr><td>x</td></tr></table>',
    "cell of fixed width": '<table><tr><td width="450">x</td></tr></table>',
    "least width": '<table style="min-width:450px"><tr><td>x</td></tr></table>',
    "table in a table": "<table><tr><td>a</td><td>"
    f"<table><tr><td>{'W' * 20}</td><td>b</td></tr></table></td></tr></table>",
    "cell over two columns": f'<table><tr><td colspan="2">{"W" * 30}</td></tr>'
    "<tr><td>a</td><td>b</td></tr></table>",
    "cell over two rows": f'<table><tr><td rowspan="2">{"a" * 20}</td><td>{"b" * 20}</td></tr>'
    f"<tr><td>{'c' * 25}</td></tr></table>",
    "image": '<img src="x.png" width="536" alt="">',
    "image that shrinks": '<img src="x.png" width="536" style="max-width:100%" alt="">',
    "button": '<p><a style="display:inline-block;padding:12px 26px;white-space:nowrap;font-weight:700">'
    "A button with far too many words in it</a></p>",
    "quotation in quotations": f'{"<blockquote>" * 3}<p style="word-break:normal">{"x" * 22}</p>',
    "list in a list": f'<ul style="word-break:normal"><li><ul><li>{"x" * 30}</li></ul></li></ul>',
    "scroll area": '<div style="overflow-x:auto"><div style="width:900px">x</div></div>',
}


def misjudged(page: Page, html: str) -> list[tuple[int, int, float]]:
    """Return each width at which the measurement is off, with Chromium's width of the content and ours."""
    wrong = []
    root = etree.fromstring(html.encode(), etree.HTMLParser(encoding="utf-8"))
    page.set_content(html)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 600})
        real, computed = page.evaluate("document.documentElement.scrollWidth"), Measurement(root, width).width
        if not real - FEW_PIXELS <= computed <= max(width, real * MOST) + FEW_PIXELS:
            wrong.append((width, real, computed))
    return wrong


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("columns", [2, 4, 8])
def test_our_tables_fit(page: Page, columns: int, kind: str) -> None:
    html = html_of(columns, kind)
    root = etree.fromstring(html.encode(), etree.HTMLParser(encoding="utf-8"))
    assert [Measurement(root, width).overflows for width in WIDTHS] == [(), (), ()]
    assert misjudged(page, html) == []


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("columns", [2, 4, 8])
def test_tables_that_neither_stack_nor_scroll_are_measured_as_chromium_does(
    page: Page, columns: int, kind: str
) -> None:
    html = html_of(columns, kind).replace("overflow-x:auto", "")
    assert misjudged(page, re.sub(r'class="data[^"]*"', 'class="data"', html)) == []


@pytest.mark.parametrize("name", SNIPPETS)
def test_other_elements_are_measured_as_chromium_does(page: Page, name: str) -> None:
    assert (
        misjudged(page, f"<!DOCTYPE html><html><body style='font:17px serif'>{SNIPPETS[name]}</body></html>")
        == []
    )
    inside = html_of(2, "short").replace("Before the table.", "@@")
    assert misjudged(page, re.sub(r"<p[^>]*>@@</p>", lambda _: SNIPPETS[name], inside)) == []
