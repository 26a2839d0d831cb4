"""What the MJML converter would silently damage, and what it must never be given."""

from __future__ import annotations

import re
import socket
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.errors import SourceError
from mailer.rendering.html.mjml import safe_mjml, to_html
from tests.rendering.test_build import TEMPLATES, edition_of


class _Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))


def mail(inside: str, head: str = "") -> str:
    return (
        f"<mjml><mj-head>{head}</mj-head><mj-body><mj-section><mj-column>{inside}"
        "</mj-column></mj-section></mj-body></mjml>"
    )


def image(alt: str) -> dict[str, str | None]:
    reader = _Attributes()
    reader.feed(to_html(mail(f'<mj-image src="https://a.example/x.png" alt="{alt}" />'), "test"))
    (found,) = reader.images
    return found


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("&quot; onerror=&quot;alert(1)", '" onerror="alert(1)'),
        ("caf\u00e9 \u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467", None),
        ("a\u00a0b e\u0301", None),
        ("back\\slash", None),
        ("two\nlines\tand a tab", "two lines and a tab"),
    ],
)
def test_attribute_comes_out_as_it_was_meant(written: str, read: str | None) -> None:
    found = image(written)
    assert found["alt"] == (read if read is not None else written)
    assert "onerror" not in found


# The others are refused where an issue is read: XML has none of them.
@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30)
)
def test_no_alternative_text_leaves_its_attribute(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert set(image(f"x{escaped}")) - {"alt", "src", "height", "width", "style"} == set()


@pytest.mark.parametrize(
    ("mjml", "said"),
    [
        (mail("<mj-txt>Hello</mj-txt>"), "mj-text"),
        (mail('<mj-text colour="red">Hello</mj-text>'), "color"),
        (mail("<mj-text><p>Hello</mj-text>"), "line 1"),
        (mail("<mj-text>a &nosuch; b</mj-text>"), "&nosuch;"),
        (mail("<mj-text>" + "<div>" * 2000 + "</div>" * 2000 + "</mj-text>"), "deep"),
        (mail("<mj-wrapper>" * 2000 + "</mj-wrapper>" * 2000), "<mj-wrapper> is not allowed in <mj-column>"),
        (mail("<mj-text><mj-column>Hello</mj-column></mj-text>"), "put it into <mj-section> or <mj-group>"),
        ("<mjml><mj-body><mj-text>Hello</mj-text></mj-body></mjml>", "put it into <mj-column> or <mj-hero>"),
        ("<mj-body></mj-body>", "<mj-body> is not allowed by itself"),
        ("<mjml>" + "x" * 2_000_000 + "</mjml>", "more than"),
    ],
)
def test_wrong_document_is_refused_with_what_would_be_right(mjml: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        safe_mjml(mjml, "issue.mjml.j2")
    assert caught.value.message.startswith("issue.mjml.j2")
    assert said in str(caught.value)


def test_white_space_between_inline_elements_stays() -> None:
    html = to_html(mail("<mj-text><b>a</b>\n<i>b</i></mj-text>"), "test")
    assert re.search(r"<b>a</b>\s+<i>b</i>", html)


def test_lines_of_code_stay_lines() -> None:
    html = edition_of("```\nfirst\n\n  second\n```\n").html
    html = re.sub(r"</?div[^>]*>", "", html.replace("<br>", "\n").replace("&nbsp;", " "))
    assert re.search(r"first\s*\n\s*\n\s*  second", html)


def test_document_is_in_standards_mode_with_language_and_title() -> None:
    html = edition_of("Hello.").html
    assert html.startswith("<!DOCTYPE html>")
    assert re.search(r'<html[^>]* lang="en"', html)
    assert "<title>Hello</title>" in html


def test_comments_for_outlook_balance_and_nothing_is_left_of_mjml() -> None:
    html = edition_of("Hello.\n\n> Quote\n\n[Go](https://a.example){.button}\n").html
    assert html.count("<!--[if") == html.count("<![endif]") > 0
    assert "<mj-" not in html
    assert "fonts.googleapis.com" not in html


def test_media_queries_keep_their_importance() -> None:
    html = edition_of("Hello.").html
    assert "@media" in html
    assert "prefers-color-scheme: dark" in html
    assert re.search(r"@media[^{]*max-width[^{]*\{[^@]*!important", html)


def test_rendering_opens_no_socket_and_no_other_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("rendering asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    html = edition_of("![a picture](https://a.example/x.png)\n\n[link](https://b.example)").html
    assert "https://a.example/x.png" in html


@pytest.mark.parametrize(
    "body",
    ["> " * 10_000 + "deep", "- " * 10_000 + "deep", "*" * 20_000 + "a" + "*" * 20_000, "[" * 20_000],
)
def test_hostile_nesting_ends_in_bounded_time(body: str) -> None:
    began = time.monotonic()
    try:
        html = edition_of(body).html
    except SourceError as error:
        html = error.message
    assert html
    assert time.monotonic() - began < 60


def test_raw_html_is_shown_not_run() -> None:
    html = edition_of('<script>alert(1)</script>\n\n<img src="x" onerror="alert(1)">\n').html
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html


def test_templates_are_those_of_the_project() -> None:
    assert (TEMPLATES / "issue.mjml.j2").is_file()
