"""Values of an issue are shown as they are: Markdown, addresses, tables and code keep their meaning."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.errors import SourceError
from tests.rendering.scene import edition, received

TITLES = [
    "# 5: what_a *day*",
    "3. März 2026",
    "- a dash",
    "1) one",
    "> quoted",
    "a | b",
    "`code` and **strong** and ~~gone~~",
    "[text](https://example.org) ![x](y)",
    "<b>bold</b> & &amp; &copy;",
    r"back\*slash",
    "{{ not }} {% jinja %}",
    "--- *** ___",
    "::: note",
    "    four spaces",
    "https://example.org/*x*",
    "two  spaces",
    "[^1]: note",
    "100 % \"quoted\" 'single'",
    # As the converter writes an attribute that it damages.
    r"\"",
    r'a "b\"c" d',
    r"let smile = '\u{1F600}';",
    r"\\u{fe0f} \\",
]


@pytest.mark.parametrize("title", TITLES)
@pytest.mark.parametrize(
    "place",
    ["{{ title }}", "Before {{ title }}, after.", "- {{ title }}", "> {{ title }}", "**{{ title }}**"],
)
def test_value_is_shown_as_it_is(title: str, place: str) -> None:
    got = received(edition(f"{place}\n\nEnd.", title=json.dumps(title)))
    assert " ".join(title.split()) in got.words
    assert " ".join(title.split()) in " ".join(got.above_signature.split())


# A title with "=?" is refused: Hypothesis finds that text in the program.
TITLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12).filter(
    lambda title: "=?" not in title
)


@given(title=TITLE)
@settings(deadline=None, max_examples=40)
def test_any_title_is_shown_in_a_cell_and_a_paragraph(title: str) -> None:
    got = received(edition("{{ title }}\n\n| a | b |\n|--|--|\n| {{ title }} | 2 |", title=json.dumps(title)))
    assert got.words == f"{title} a b {title} 2"


@pytest.mark.parametrize("written", [r"\"", r"\u{1F600}", r'print("\u{1F600}\"")', "C:\\"])
def test_backslashes_in_code_are_shown(written: str) -> None:
    got = received(edition(f"```\n{written}\n```\n\nSay `{written}`.", preheader=json.dumps(written)))
    assert got.words.count(written) == got.above_signature.count(written) == 2


@pytest.mark.parametrize(
    "word",
    ["xslot", "xslots", "xslot0123456789abe", "xslot0123456789abt", "xslotxslot0123456789abe0123456789abu"],
)
@pytest.mark.parametrize("place", ["{}", "# {}", "- {}", "> {}", "`{}`", "| {} |\n|--|\n| b |"])
def test_words_that_look_like_our_slots_are_shown(word: str, place: str) -> None:
    got = received(edition(f"{place.format(word)}\n\nDear {{{{ subscriber.name | default('you') }}}}."))
    assert got.words.startswith(word)
    assert word in got.above_signature.lower()
    assert "Dear Ana." in got.above_signature


def test_date_begins_a_paragraph_in_german() -> None:
    got = received(edition("{{ date }}\n\nLiebe Leute.", language="de", date="2026-03-04"))
    assert got.words == "4. März 2026 Liebe Leute."
    assert got.body.find(".//ol") is None


@pytest.mark.parametrize("raw_html", [False, True])
def test_value_in_an_address_is_encoded(raw_html: bool) -> None:
    body = "[Share {{ title }}](https://example.org/{{ number }}?t={{ title }}&u={{ title | urlencode }})"
    got = received(edition(body, raw_html=raw_html, title='"A & B / C*"', number=7))
    address = "https://example.org/7?t=A%20%26%20B%20/%20C%2A&u=A%20%26%20B%20/%20C%2A"
    assert got.links == [address]
    assert f"Share A & B / C* [1]\n\n[1] {address}" in got.text


def test_value_in_an_html_address_is_encoded() -> None:
    got = received(edition('<a href="https://example.org/?t={{ title }}">{{ title }}</a>', raw_html=True))
    assert (got.links, got.words) == (["https://example.org/?t=A%20test"], "A test")


def test_value_may_be_a_whole_address() -> None:
    got = received(edition('[Go]({{ "https://example.org/a?b=1&c=ü" }})'))
    assert got.links == ["https://example.org/a?b=1&c=%C3%BC"]


CODE = ["{{ title }}", "{{ subscriber.name }}", "{% if x %}", "{# no comment #}", "{:#}", "{{", "}}"]


@pytest.mark.parametrize("code", CODE)
@pytest.mark.parametrize(
    "place",
    [
        "`%s`",
        "``x ` %s``",
        "```html\n%s\n```",
        "~~~\n%s\n~~~",
        "Text.\n\n    %s",
        "> `%s`",
        "- ```\n  %s\n  ```",
    ],
)
def test_code_is_shown_as_written(code: str, place: str) -> None:
    got = received(edition(place.replace("%s", code) + "\n\nThen {{ title }}."))
    assert code in got.words
    assert code in got.text
    assert got.words.endswith("Then A test.")


def test_text_between_two_backquotes_in_different_paragraphs_is_filled() -> None:
    got = received(edition("A ` here: {{ title }}\n\nand ` there"))
    assert got.words == "A ` here: A test and ` there"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("One.\n\n<!-- secret -->\n\nTwo.", "One. Two."),
        ("One <!-- secret --> two.", "One two."),
        ("<!-- secret\n\nmore secret -->\n\nTwo.", "Two."),
        ("One.\n<!-- {% if broken %} {{ secret -->\nTwo.", "One. Two."),
        ("<!--[if mso]>secret<![endif]-->\n\nTwo.", "Two."),
        ("<!-- ``` secret -->\n\n`<!-- code -->`", "<!-- code -->"),
        ("- a <!-- secret -->\n- b", "a b"),
    ],
)
@pytest.mark.parametrize("raw_html", [False, True])
def test_comment_never_reaches_a_reader(body: str, words: str, raw_html: bool) -> None:
    made = edition(body, raw_html=raw_html)
    assert received(made).words == words
    for part in (made.html, made.text, made.page):
        assert "secret" not in part


def test_comment_without_an_end_is_refused_at_its_line() -> None:
    with pytest.raises(SourceError, match=r"002-test\.md:7: the comment '<!--' is never closed"):
        edition("One.\n\n<!-- secret\n\nTwo.")


@pytest.mark.parametrize(
    ("body", "line", "problem", "remedy"),
    [
        ("a\n\n{% if subscriber.x %}\n\nb\n", 7, "'{% if %}' is never closed", "{% endif %}"),
        ("a\n\n{% for t in tags %}\n\nb\n", 7, "'{% for %}' is never closed", "{% endfor %}"),
        ("a\n{{ title\n", 6, "an expression in braces is incomplete", "close {{ with }}"),
        ("a\n{{ title b }}\n", 6, "an expression in braces is incomplete", "close {{ with }}"),
        ("a\n\nFirst {# and\n\n`#}`\n", 7, "'{#' begins a comment that never ends", "as code"),
        ("a\n{{ newsletter.nme }}\n", 6, "there is no '.nme' here; did you mean '.name'?", "correct"),
        ("a\n{{ titel }}\n", 6, "unknown name 'titel'; did you mean 'title'?", ""),
        ("a\n{% endif %}\n", 6, "'endif' closes nothing", ""),
        ("a\n{% else %}\n", 6, "'else' is outside of any {% if %}", ""),
        ("a\n{{ }}\n", 6, "the braces do not contain an expression", "as code"),
        ("a\n{% include 'x' %}\n", 6, "'include' cannot be used here", ""),
    ],
)
def test_mistake_in_jinja_is_reported_at_its_line(body: str, line: int, problem: str, remedy: str) -> None:
    with pytest.raises(SourceError) as caught:
        edition(body)
    assert f"002-test.md:{line}: {problem}" in caught.value.message
    assert remedy in f"{caught.value.message} {caught.value.remedy}"
    assert not re.search(r"Jinja|object|mailer\.|\\[wds]", caught.value.message)
