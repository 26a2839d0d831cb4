"""The author's own HTML: what stays of it, and what never gets through."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.config import Brand
from mailer.errors import SourceError
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition
from mailer.rendering.source import parse_issue
from mailer.rendering.source.raw_html import cleaned, plain
from tests.rendering.test_build import NEWSLETTER, ROOT, TEMPLATES


def edition_of(body: str, *, raw_html: bool = True) -> Edition:
    issue = parse_issue(f"---\ntitle: Hello\n---\n{body}", ROOT / "issues" / "002-test.md")
    return build_edition(issue, NEWSLETTER, Brand(), TEMPLATES, raw_html=raw_html)


def clean(html: str) -> str:
    return cleaned(html, lambda address: address, "issue.md")


def test_html_is_text_unless_it_is_allowed() -> None:
    written = "a <b>word</b>"
    assert "a &lt;b&gt;word&lt;/b&gt;" in edition_of(written, raw_html=False).html
    assert "a <b>word</b>" in edition_of(written).html


def test_markdown_goes_on_inside_an_element() -> None:
    html = edition_of('<div style="text-align:center">\n\n**Bold**\n\n</div>\n').html
    assert re.search(r'<div style="text-align:center">\s*<p[^>]*><strong>Bold</strong></p>\s*</div>', html)


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("<script>alert(1)</script>x", "x"),
        ("<style>@import url(https://e.example)</style>x", "x"),
        ('<p onclick="x()">a</p>', "<p>a</p>"),
        ('<a href="javascript:x()">a</a>', "<a>a</a>"),
        ('<a href="vbscript:x">a</a>', "<a>a</a>"),
        ('<img src="data:image/svg+xml,<svg onload=x>" alt="a">', '<img alt="a">'),
        ('<iframe src="https://e.example"></iframe>x', "x"),
        ('<form action="https://e.example"><input name="a">x</form>', "x"),
        ("<svg><script>x</script></svg>y", "y"),
        ('<p style="position:fixed; color:red">a</p>', '<p style="color:red">a</p>'),
        ('<p style="background:url(https://e.example/p)">a</p>', '<p style="">a</p>'),
        ('<p style="background-color:#fff; display:none">a</p>', '<p style="background-color:#fff">a</p>'),
        ("<!-- note --><!--[if mso]><p>x</p><![endif]-->y", "y"),
        ("<b>never closed", "<b>never closed</b>"),
        ('<meta http-equiv="refresh" content="0;url=https://e.example">x', "x"),
        ('<base href="https://e.example">x', "x"),
        ("<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>", ""),
        ('<font color="red">a</font>', '<font color="red">a</font>'),
        ('<td background="https://e.example/p">x', "x"),
    ],
)
def test_only_allowed_html_remains(written: str, kept: str) -> None:
    assert re.sub(r"<table></table>", "", clean(written)) == kept


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bad += [tag] if tag in ("script", "style", "iframe", "form", "svg", "object", "meta") else []
        self.bad += [name for name, _ in attrs if name.startswith("on")]
        self.bad += [value for _, value in attrs if value and re.match(r"(?i)\s*(javascript|data):", value)]


_FRAGMENTS = st.sampled_from(
    ["<script>", "</script>", "<img src=x onerror=y>", "<a href='java\tscript:x'>", "</a>", "<!--", "-->",
     "<svg>", "<style>", "</style>", "<math>", "<table>", "<td>", "<p ", "style='a:b'", ">", "<![CDATA[",
     "]]>", "<b", "&lt;script&gt;", "onload=x", "\x0c", "<noscript>", "<title>", "<textarea>", "<select>",
     "/", '"']
)  # fmt: skip


@given(st.lists(_FRAGMENTS, max_size=15).map("".join))
def test_nothing_that_runs_gets_through(html: str) -> None:
    reader = _Reader()
    reader.feed(clean(html))
    assert reader.bad == []


def test_slots_in_addresses_are_made_safe_and_elsewhere_refused() -> None:
    html = edition_of('<a href="https://a.example/?n={{ subscriber.name }}">x</a>').html
    assert 'href="https://a.example/?n={{ (subscriber.name) | string | urlencode }}"' in html
    with pytest.raises(SourceError, match=r"002-test.md:4: a link cannot begin with"):
        edition_of('<a href="{{ subscriber.site }}">x</a>')
    with pytest.raises(SourceError, match=r"'style' of <p> cannot differ per subscriber"):
        edition_of('<p style="color:{{ subscriber.colour }}">x</p>')


def test_condition_around_html_stays() -> None:
    html = edition_of("{% if subscriber.plan %}\n<p>paid</p>\n{% endif %}\n").html
    assert re.search(r"\{% if subscriber.plan %\}\s*<p[^>]*>paid</p>\s*\{% endif %\}", html)


def test_text_part_holds_the_words_and_the_links() -> None:
    text = edition_of(
        '<div>One <a href="https://a.example/x">two</a></div>\n\n'
        'three <a href="https://b.example/?a=1&amp;b=2"><b>four</b></a><br>five <script>no</script>\n'
    ).text
    assert "One two [1]\n\nthree four [2]\nfive" in text
    assert "[1] https://a.example/x\n[2] https://b.example/?a=1&b=2" in text
    assert "no" not in text.split("--")[0].split()


def test_plain_puts_a_line_between_blocks() -> None:
    html = "<p>a&amp;b</p><ul><li>c</li><li>d</li></ul><table><tr><td>e</td><td>f</td></tr></table>"
    assert plain(html) == "a&b\nc\nd\ne f"


@pytest.mark.parametrize("piece", ["<div>", "<b>", "<table><tr><td>", "<ul><li>"])
def test_elements_without_end_are_refused_in_bounded_time(piece: str) -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match="deep"):
        edition_of(piece * 3_000)
    assert time.monotonic() - began < 60


@settings(max_examples=20, deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{3,8}", fullmatch=True), min_size=1, max_size=6))
def test_templates_are_not_cleaned_away(words: list[str]) -> None:
    html = edition_of(f"<i>{words[0]}</i>\n\n[{' '.join(words)}](https://a.example){{.button}}\n").html
    assert html.count('role="presentation" class="button"') == 1
    assert "xheld" not in html
