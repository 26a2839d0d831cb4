"""Lint gets through whatever HTML there is: it reports, and never fails itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.rendering.edition import Edition
from mailer.rendering.lint import CHECKS, Level
from tests.rendering.lint.scene import HTML, edition, linted

_VALUES = st.sampled_from(
    ["http://[", "https://a:b:c/", "//", "#", "", "cid:", "data:,", "%zz", "https://x.example/ü"]
) | st.text(max_size=20)
_STYLES = st.sampled_from(
    [
        "font-size:1.2.3px",
        "font-size:.5em",
        "color:rgba(1,2,3,9.9)",
        "color:rgb(300,0,0)",
        "background: ",
        ":;;",
    ]
) | st.text(max_size=20)
_TAGS = st.sampled_from(["a", "img", "table", "h1", "h5", "p", "mj-x", "svg", "font", "style", "video"])


@cache
def plain_edition() -> Edition:
    return replace(edition(), text="x")


@st.composite
def elements(draw: st.DrawFn) -> str:
    tag, value, style = draw(_TAGS), draw(_VALUES), draw(_STYLES)
    inside = draw(st.text(max_size=20) | st.sampled_from(["<!--[if mso]>", "<![endif]-->", "<b", "{{ x }}"]))
    return f'<{tag} href="{value}" src="{value}" style="{style}">{inside}</{tag}>'


@settings(max_examples=150, deadline=None)
@given(st.lists(elements(), max_size=5), st.sampled_from(["", "<http://[>", "<https://x>, <mailto:y>"]))
def test_any_html_is_reported_on(parts: list[str], unsubscribe: str) -> None:
    html = HTML.replace("<!-- more -->", "".join(parts)).encode("utf-8", "replace").decode()
    report = linted(html, of=plain_edition(), List_Unsubscribe=unsubscribe)
    assert {finding.check for finding in report.findings} <= set(CHECKS)
    assert report.fails() == any(finding.level is Level.ERROR for finding in report.findings)


def test_deep_html_is_reported_on() -> None:
    report = linted(HTML.replace("<!-- more -->", "<div>" * 5_000), of=plain_edition())
    assert report.html_bytes > 25_000
