"""What the MJML converter and the inliner would damage, fetch or drop without a word."""

from __future__ import annotations

import re
import socket
from html.parser import HTMLParser

import pytest

from mailer.errors import SourceError
from mailer.rendering.html import mjml as converting
from mailer.rendering.html.document import BODY, document
from mailer.rendering.html.mjml import to_html
from mailer.rendering.source.markdown import MAX_NESTING
from tests.rendering.html.test_mjml import mail
from tests.rendering.test_build import TEMPLATES, edition_of

_FRAME = (
    "<mjml><mj-head>{head}</mj-head><mj-body><mj-section><mj-column>"
    f'<mj-text css-class="body">{BODY}</mj-text></mj-column></mj-section></mj-body></mjml>'
)


class _Attributes(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += attrs


def attributes(html: str) -> list[tuple[str, str | None]]:
    reader = _Attributes()
    reader.feed(html)
    return reader.found


# The converter.


def test_title_stays_inside_the_attribute_that_repeats_it() -> None:
    title = 'A "b" onload="x" ❤️ 👨‍👩‍👧 \\ é'
    escaped = title.replace('"', "&quot;")
    html = to_html(mail("<mj-text>x</mj-text>", head=f"<mj-title>{escaped}</mj-title>"), "t")
    assert ("aria-label", title) in attributes(html)
    assert "onload" not in dict(attributes(html))


@pytest.mark.parametrize("damaged", ['<a title="a\\" b">', '<img alt="\\u{fe0f}">'])
def test_attribute_damaged_all_the_same_fails_the_build(
    damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "mjml2html", lambda mjml, fonts: damaged)
    with pytest.raises(SourceError, match="t: the converter damaged an attribute"):
        to_html(mail("<mj-text>x</mj-text>"), "t")


def test_empty_alternative_text_is_written() -> None:
    html = to_html(mail('<mj-image src="https://a.example/x.png" alt="" />'), "t")
    assert ("alt", "") in attributes(html)


@pytest.mark.parametrize(
    ("mjml", "said"),
    [
        (mail("<mj-social></mj-social>"), "<mj-social> is not an MJML element"),
        (mail("<mj-navbar></mj-navbar>"), "<mj-navbar> is not an MJML element"),
        (mail('<mj-include path="/etc/passwd" />'), "<mj-include> is not an MJML element"),
        (mail("", head="<mj-html-attributes />"), "<mj-html-attributes> is not an MJML element"),
        (mail("", head='<mj-style inline="inline">p { color: red }</mj-style>'), "no attribute 'inline'"),
        (mail("<mj-raw><p>x</p></mj-raw>"), "<p> would be placed between the rows of a table"),
        (mail("<mj-raw><![if !mso]>x<![endif]></mj-raw>"), "not well-formed"),
        ("<!doctype html>\n" + mail(""), "line 1 after filling: a template has no doctype"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>\n' + mail("&a;"), "line 1 after filling: a template has no doctype"),
    ],
)
def test_what_the_converter_takes_in_another_sense_is_refused(mjml: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        to_html(mjml, "t")
    assert said in caught.value.message


def test_lines_are_counted_in_characters_and_not_in_octets() -> None:
    with pytest.raises(SourceError, match="line 4 after filling"):
        to_html(mail("<mj-text>äöü 漢字\n👩‍🚀👩‍🚀\né</mj-text>\n<mj-txt />"), "t")


def test_declaration_and_literal_sections_are_read() -> None:
    html = to_html('<?xml version="1.0"?>' + mail("<mj-text><![CDATA[1 < 2 & <b>]]></mj-text>"), "t")
    assert "1 &lt; 2 &amp; &lt;b&gt;" in html


@pytest.mark.parametrize("font", ["Open Sans", "Roboto", "Lato", "Montserrat", "Ubuntu", "Droid Sans"])
def test_font_that_the_converter_knows_is_not_fetched_from_its_makers(font: str) -> None:
    html = to_html(mail(f'<mj-text font-family="{font}, Arial">x</mj-text>'), "t")
    assert f"font-family:{font}, Arial" in html
    assert "<link" not in html
    assert "@import" not in html


# The inliner.


def test_style_sheet_that_is_linked_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    linked = '<link rel="stylesheet" href="https://a.example/a.css" />'
    html = document(_FRAME.format(head=f"<mj-raw>{linked}</mj-raw>"), "<p>x</p>", "p{color:red}", "", "", "t")
    assert '<p style="color:red">' in html


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://bücher.example/ü?a=1&b=2", "https://xn--bcher-kva.example/%C3%BC?a=1&b=2"),
        ("<https://a.example/a b>", "https://a.example/a%20b"),
        ("https://a.example/?q=%20%C3%BC&r=a+b", "https://a.example/?q=%20%C3%BC&r=a+b"),
        ("https://a.example/#ü", "https://a.example/#%C3%BC"),
    ],
)
def test_address_comes_out_as_browsers_ask_for_it(written: str, sent: str) -> None:
    edition = edition_of(f"[x]({written})")
    assert ("href", sent) in attributes(edition.html)
    assert f"[1] {sent}\n" in edition.text


@pytest.mark.parametrize("mark", ["> ", "- "])
def test_deepest_nesting_that_is_taken_is_whole_in_the_html(mark: str) -> None:
    deepest = MAX_NESTING // 2 - 2
    assert "the deepest words" in edition_of(mark * deepest + "the deepest words").html
    with pytest.raises(SourceError, match="nested deeper"):
        edition_of(mark * MAX_NESTING + "the deepest words")


def test_our_rules_hold_nothing_that_the_inliner_orders_otherwise() -> None:
    css = (TEMPLATES / "inline.css.j2").read_text()
    css = re.sub(r"/\*.*?\*/|\{[{%#].*?[%#}]\}", "0", css, flags=re.DOTALL)
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", css)
    assert len(rules) > 40
    for selectors, declarations in rules:
        names = [one.split(":")[0].strip() for one in declarations.split(";") if one.strip()]
        assert len(names) == len(set(names)), f"a fallback would be lost: {selectors}"
        assert "!important" not in declarations, f"it would lose to a style attribute: {selectors}"
        assert "\\" not in selectors, f"it would be misread: {selectors}"


def test_comments_for_outlook_of_a_built_issue_are_in_the_form_that_survives() -> None:
    html = edition_of("Hello.\n\n[Go](https://a.example){.button}\n").html
    assert "<![if" not in html
    assert html.count("<!--[if") == html.count("<![endif]") > 4
