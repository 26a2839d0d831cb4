"""Style rules moved onto the elements they match."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import SourceError
from mailer.rendering.html import inlining
from mailer.rendering.html.document import BODY, document
from mailer.rendering.html.inlining import inlined, needed

CSS = "p.a{color:#112233;margin:0 0 4px !important}\ntd > a{color:red}"
PAGE = (
    "<!DOCTYPE html><html><head></head><body><p class='a' style='font-size:12px;color:blue'>x</p>"
    "<table><tr><td><a href='#'>y</a></td></tr></table></body></html>"
)
MJML = (
    "<mjml><mj-body><mj-section><mj-column>"
    f"<mj-text>{BODY}</mj-text></mj-column></mj-section></mj-body></mjml>"
)


def test_rules_are_put_below_inline_styles_and_keep_important() -> None:
    html = inlined(PAGE, CSS)
    assert '<p class="a" style="color:blue; margin:0 0 4px !important; font-size:12px">' in html
    assert '<a href="#" style="color:red">' in html


def test_inlining_again_gives_the_same_document() -> None:
    assert [inlined(PAGE, CSS)] * 3 == [inlined(PAGE, CSS) for _ in range(3)]


def test_ignored_style_sheet_stays_in_the_head() -> None:
    page = PAGE.replace("</head>", '<style data-premailer="ignore">@media print{p{color:red}}</style></head>')
    assert "@media print{p{color:red}}" in inlined(page, CSS)


@pytest.mark.parametrize(
    "css",
    ["a:hover{color:red}", "p{color:red}\na:hover, b{color:red}", "p:first-line{color:red}"],
)
def test_pseudo_class_is_refused_with_its_line(css: str) -> None:
    line = css.count("\n") + 1
    with pytest.raises(SourceError, match=rf"inline\.css\.j2:{line} .*pseudo-class"):
        document(MJML, "x", css, "", "", "place")


@pytest.mark.parametrize("css", ["@import url(%s);", "@import '%s';", "p{color:red} @media print{p{}}"])
def test_at_rule_is_refused_and_no_file_is_read(css: str, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("p{color:green}")
    with pytest.raises(SourceError, match="@ rule"):
        document(MJML, "<p>x</p>", css.replace("%s", str(tmp_path / "a.css")), "", "", "place")


@pytest.mark.parametrize(
    "css", ["p{background:url(https://a.example/x)}", "/* a:hover{} @x */p{color:red}", "p{color:red}"]
)
def test_colon_and_at_sign_elsewhere_are_fine(css: str) -> None:
    assert "<p style=" in document(MJML, "<p>x</p>", css, "", "", "place")


@pytest.mark.parametrize(
    ("css", "expected"),
    [
        ("p{a:b}td{c:d}", "p{a:b}td{c:d}"),
        (".body pre{a:b}.body p{c:d}", ".body p{c:d}"),
        (".body h1, .body p.here, .gone p{a:b}", " .body p.here{a:b}"),
        (".body p[dir=rtl]{a:b}#one{c:d}", ".body p[dir=rtl]{a:b}"),
        ("/* .gone */\n.Body P{a:b}", "\n.Body P{a:b}"),
        ("* > .body{a:b}", "* > .body{a:b}"),
        (".g\\6fne{a:b}", ".g\\6fne{a:b}"),
    ],
)
def test_selectors_that_cannot_match_are_left_out(css: str, expected: str) -> None:
    assert needed(css, '<div class="body"><p class=here>x<table><td></table></div>') == expected


@given(
    st.lists(
        st.sampled_from(
            [
                "p",
                ".a",
                ".b",
                "p.a",
                "div p",
                "div > p, .b",
                "td, th",
                "[dir]",
                "p[dir=rtl]",
                "#i",
                "*",
                ".c .a",
            ]
        ),
        max_size=6,
    ),
    st.sets(
        st.sampled_from(['<p class="a">x</p>', "<div dir=rtl><p>y</p></div>", "<b class='b c' id=i>z</b>"])
    ),
)
def test_leaving_selectors_out_changes_nothing(selectors: list[str], elements: set[str]) -> None:
    css = "".join(f"{selector}{{margin:{number}px}}" for number, selector in enumerate(selectors))
    page = f"<!DOCTYPE html><html><head></head><body>{''.join(sorted(elements))}</body></html>"
    with mock.patch.object(inlining, "needed", lambda css, html: css):
        expected = inlined(page, css)
    assert inlined(page, css) == expected
