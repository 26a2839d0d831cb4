"""The width that an email needs is computed, and a finding points at what is too wide."""

from __future__ import annotations

import pytest
from lxml import etree

from mailer.rendering.lint.cascade import Cascade
from mailer.rendering.lint.width import Measurement
from tests.rendering.lint.scene import reported
from tests.rendering.scene import issue_of


def document(body: str, css: str = "") -> etree._Element:
    html = (
        f"<!DOCTYPE html><html><head><style>{css}</style></head><body style='margin:0'>{body}</body></html>"
    )
    return etree.fromstring(html.encode(), etree.HTMLParser(encoding="utf-8"))


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (400, '<div style="width:400px">x</div>'),
        (420, '<div style="width:400px;padding:0 10px">x</div>'),
        (440, '<div style="margin-left:20px"><div style="width:400px;padding:0 10px">x</div></div>'),
        (400, '<div style="width:400px;padding:0 10px;box-sizing:border-box">x</div>'),
        (320, '<div style="width:400px;max-width:100%">x</div>'),
        (320, '<div style="overflow-x:auto;width:100%"><div style="width:900px">x</div></div>'),
        (400, '<table width="400"><tr><td>x</td></tr></table>'),
        (400, '<div style="min-width:300pt">x</div>'),
        (320, '<img width="600" style="max-width:100%" src="x" alt="">'),
        (320, '<p style="display:none;width:600px">x</p>'),
        (320, f'<p style="overflow-wrap:anywhere">{"x" * 99}</p>'),
        (320, f'<p style="word-break:break-word">{"x" * 99}</p>'),
        (320, f"<p>{'中文' * 50}</p>"),
        (320, f"<p>{'well-' * 50}</p>"),
    ],
)
def test_width_is_that_of_what_cannot_be_narrower(expected: int, body: str) -> None:
    assert Measurement(document(body), 320).width == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    "text", ["x" * 99, "https://example.org/" + "x/" * 40, "one_" * 30, "ж" * 60, "א" * 60]
)
def test_text_without_a_possible_line_break_counts_as_a_whole(text: str) -> None:
    (found,) = Measurement(document(f"<p>short {text} short</p>"), 320).overflows
    assert (text, "p") == (found.text, found.element.tag)
    assert found.needs > 320


def test_media_queries_decide_by_screen() -> None:
    css = """@media only screen and (max-width: 480px) {
        .wide, .wide td { display: block !important; width: auto !important }
    }"""
    body = '<table class="wide" style="width:600px"><tr><td style="width:300px">a</td><td>b</td></tr></table>'
    assert Measurement(document(body, css), 320).overflows == ()
    assert [round(one.needs) for one in Measurement(document(body, css), 500).overflows] == [600]


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ("b", True), (".x", True), ("p > b", True), ("p b", True), ("#i", True), ("b.x.y", True), ("*", True),
        ("[title]", True), ("b[title=t]", True), ("[title^='t']", True), ("div p > b", True),
        (".z, .x", True),
        ("div > b", False), (".z", False), ("b > b", False), ("i b", False), ("[title=u]", False),
        ("b:hover", False),
    ],
)  # fmt: skip
def test_selector_selects(selector: str, matches: bool) -> None:
    root = document('<div><p><b id="i" class="x y" title="t">B</b></p></div>', f"{selector} {{ width: 5px }}")
    (element,) = root.iter("b")
    assert (Cascade(root, 320).style(element).length("width") == 5) is matches


def test_later_more_specific_and_important_rules_win() -> None:
    root = document(
        '<p class="a" style="padding: 1px 2px; padding-left: 3px">x</p>',
        "p { padding: 9px !important } .a { padding-right: 7px !important } p { padding-right: 8px }",
    )
    (element,) = root.iter("p")
    style = Cascade(root, 320).style(element)
    assert [style.length(f"padding-{side}") for side in ("top", "right", "bottom", "left")] == [9, 7, 9, 9]


def test_finding_points_at_the_line_of_the_issue() -> None:
    source = issue_of('One.\n\n<table width="640"><tr><td>Beans in jars</td></tr></table>\n\nTwo.')
    (found,) = [one for one in reported(source, raw_html=True).findings if one.check == "too-wide"]
    assert (
        source.split("\n").index('<table width="640"><tr><td>Beans in jars</td></tr></table>') + 1
        == found.line
    )
    assert "needs a screen of 660 px; phones have 320" in found.message


def test_what_fits_a_phone_may_still_not_fit_a_window() -> None:
    css = "@media (min-width: 600px) { .x { width: 900px } }"
    assert Measurement(document('<div class="x">x</div>', css), 320).overflows == ()
    assert Measurement(document('<div class="x">x</div>', css), 700).width == 900
