"""Markdown to the HTML of a body."""

from __future__ import annotations

import re

import pytest

from mailer.rendering.html.renderer import highlighted
from mailer.rendering.source.markdown import parse_markdown, visible_words
from tests.rendering.test_build import edition_of


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("~~old~~", "<s>old</s>"),
        ("one\ntwo", "one two"),
        ("one\\\ntwo", "one<br>two"),
        ("5 < 6 & 7", "5 &lt; 6 &amp; 7"),
        ("[a](https://a.example){onclick=x}", ">a</a>"),
    ],
)
def test_element_comes_out(written: str, expected: str) -> None:
    html = edition_of(written).html
    assert expected in html
    assert "onclick" not in html


def test_only_harmless_attributes_pass() -> None:
    html = edition_of('[a](https://a.example){style="x:y" id=z class=k title="T"}').html
    assert 'class="k"' in html
    assert 'title="T"' in html
    assert 'id="z"' not in html
    assert "x:y" not in html


@pytest.mark.parametrize("target", ["javascript:alert(1)", "vbscript:x", "data:text/html,x", "file:///etc/x"])
def test_link_that_would_run_is_text(target: str) -> None:
    html = edition_of(f"[a]({target})\n\n![b]({target})").html
    assert f'href="{target}' not in html
    assert f'src="{target}' not in html


def test_code_is_coloured_by_inline_styles_and_unknown_languages_are_plain() -> None:
    assert '<span style="color' in highlighted("x = 1\n", "python")
    assert highlighted("a < b\n", "nosuchlanguage") == "a &lt; b\n"
    assert highlighted("x = 1\n" * 10_000, "python") == "x = 1\n" * 10_000


def test_button_is_a_table_and_in_a_sentence_a_link() -> None:
    alone = edition_of("[Go](https://a.example){.button}").html
    assert alone.count('class="button"') == 1
    assert "<td" in alone[alone.index('class="button"') :]
    inside = edition_of("Then [go](https://a.example){.button} on.").html
    assert '<table role="presentation" class="button"' not in inside


def test_image_alone_is_a_figure_and_in_a_sentence_stays_in_it() -> None:
    assert '<table role="presentation" class="figure"' in edition_of("![A jar](https://a.example/j.png)").html
    edition = edition_of("A ![jar](https://a.example/j.png){width=20} here")
    assert re.search(
        r'<p[^>]*>A <img src="https://a.example/j.png" alt="jar" width="20"[^>]*> here</p>', edition.html
    )
    assert re.search(r"<p>A <img [^>]*> here</p>", edition.page)


def test_button_with_an_image_or_a_note_beside_it_loses_neither() -> None:
    for beside, kept in (("![](https://a.example/j.png)", "j.png"), ("[^1]", "(1)")):
        html = edition_of(f"[Go](https://g.example){{.button}}{beside}\n\n[^1]: Note").html
        assert kept in html


def test_footnote_marks_are_plain_and_numbered_in_order() -> None:
    edition = edition_of("a[^x] b[^y]\n\n[^y]: second\n[^x]: first\n")
    assert edition.html.index("(1)") < edition.html.index("(2)")
    assert 'href="#' not in edition.html
    assert "(1) first\n\n(2) second" in edition.text


def test_question_and_answer_name_who_speaks() -> None:
    edition = edition_of("::: question Ann\nWhy?\n:::\n\n::: answer Ben\nBecause.\n:::\n")
    assert [name in edition.html for name in ("Ann", "Ben")] == [True, True]
    assert "Ann\n  Why?\n\nBen\n  Because." in edition.text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("one two", 2),
        ("# One\n\ntwo *three*", 3),
        ("![not this](https://a.example/b.png 'but this one')", 3),
        ("[a link](https://a.example/x)", 2),
        ("```\nx = 1\n```", 3),
        ("::: warning\nsaid\n:::", 2),
        ("a\nb  \nc", 3),
    ],
)
def test_words_are_those_a_reader_sees(written: str, expected: int) -> None:
    assert visible_words(parse_markdown(written)) == expected


def test_words_of_a_condition_count_apart_from_those_beside_it() -> None:
    assert edition_of("a{% if subscriber.city %} in {{ subscriber.city }}{% endif %} b").words == 1 + 4
