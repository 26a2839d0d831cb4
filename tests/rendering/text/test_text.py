"""The text part: narrow, whole, and the same words as the HTML."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import wcswidth

from mailer.rendering.source.markdown import parse_markdown
from mailer.rendering.text.blocks import Links, render_text
from mailer.rendering.text.layout import NARROW, columns, wrap
from tests.rendering.test_build import edition_of

_WORD = st.text(alphabet="abcdefgäößμ字漢…’", min_size=1, max_size=12)

_UNBROKEN = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=200)


def text_of(markdown: str) -> str:
    return render_text(parse_markdown(markdown), Links())


@given(st.lists(_WORD, min_size=1, max_size=80))
def test_no_line_is_wider_than_it_may_be(words: list[str]) -> None:
    for line in text_of(" ".join(words)).splitlines():
        assert columns(line) <= 74


def test_links_are_numbered_with_whole_addresses_at_the_end() -> None:
    url = "https://example.org/" + "long/" * 40
    links = Links()
    text = render_text(parse_markdown(f"See [the page]({url}) and [it]({url}) again."), links)
    assert "the page [1]" in text
    assert "it [1]" in text
    assert links.listed() == f"[1] {url}"


@pytest.mark.parametrize("line", ["From here on", ".hidden", "..", "From\tthere"])
def test_line_that_mail_would_misread_is_moved(line: str) -> None:
    text = text_of(f"Paragraph.\n\n{line}\n")
    assert not re.search(r"^(From |\.)", text, re.MULTILINE)


def test_headings_are_underlined_as_wide_as_they_are() -> None:
    text = edition_of("## 漢字 heading\n\nBody.").text
    line = next(line for line in text.splitlines() if "heading" in line)
    assert "\n" + "-" * columns(line) + "\n" in text.split(line)[1]


def test_quote_list_and_code_can_be_told_apart() -> None:
    text = text_of("> said\n> somebody\n\n1. one\n2. two\n\n- dot\n\n```\n  code  stays\n```\n")
    assert "> said somebody" in text
    assert re.search(r"^1\. one$", text, re.MULTILINE)
    assert re.search(r"^[-*•] dot$", text, re.MULTILINE)
    assert "  code  stays" in text


def test_footer_holds_the_ways_out_and_the_address() -> None:
    text = edition_of("Hello.").text
    assert "{{ urls.unsubscribe }}" in text
    assert "1 Garden Lane, 12345 Somewhere" in text


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=200), st.integers(10, 80)
)
def test_wrapping_loses_no_character(text: str, width: int) -> None:
    assert "".join(wrap(text, width)) == text


def test_footer_of_every_message_begins_as_a_signature() -> None:
    text = edition_of("-- \n\nOne\n\n--  \nTwo").text
    assert [line for line in text.splitlines() if line.startswith("--")] == ["--", "--", "-- "]


def test_buttons_have_lines_of_their_own_and_in_a_sentence_are_links() -> None:
    links = Links()
    body = "[Yes](https://y.example){.button}\n[No](https://n.example){.button}\n\nOr [go](https://g.example){.button}."
    text = render_text(parse_markdown(body), links)
    assert text == "Yes:\nhttps://y.example\nNo:\nhttps://n.example\n\nOr go [1]."
    assert links.listed() == "[1] https://g.example"


def test_image_is_its_alternative_text_and_its_caption() -> None:
    assert text_of('![A jar](jar.png "By Ada")') == "[A jar]\nBy Ada"
    assert text_of("![A jar](jar.png)") == "[A jar]"
    assert text_of('![](jar.png "By Ada")') == "By Ada"


def test_long_line_of_code_goes_on_further_in() -> None:
    text = text_of("```\n  say " + "word " * 14 + "\nhttps://example.org/" + "far/" * 30 + "\n```\n")
    assert text.splitlines() == [
        "      say" + " word" * 12,
        "          word word",
        "    https://example.org/" + "far/" * 30,
    ]


def test_number_of_a_link_and_of_a_note_stays_with_the_word_before_it() -> None:
    for length in range(55, 75):
        before = "x" * length
        text = text_of(f"{before} [a label](https://a.example) and {before} word[^1]\n\n[^1]: Note")
        assert "label [1]" in text
        assert "word (1)" in text


def test_columns_of_a_table_keep_their_sides() -> None:
    text = text_of("| Name | Amount | Seen |\n|:--|--:|:-:|\n| Beans | 1.20 | yes |\n| Rake | 14.90 | no |\n")
    assert text.splitlines() == [
        "Name   Amount  Seen",
        "-----  ------  ----",
        "Beans    1.20  yes",
        "Rake    14.90   no",
    ]


def test_wide_table_has_a_line_for_each_row_and_a_wider_one_a_paragraph() -> None:
    rows = "| One | Two | Three |\n|---|---|---|\n| {} | b | c |\n| a | {} | d |\n"
    text = text_of(rows.format("x" * 40, "y" * 40))
    long = "x" * 40 + " | b | c"
    assert text.splitlines() == ["One | Two | Three", "-" * len(long), long, "a | " + "y" * 40 + " | d"]
    text = text_of(rows.format("word " * 20, "y" * 40))
    assert text.split("\n\n")[1].splitlines() == ["word" + " word" * 13, "word" + " word" * 5 + " | b | c"]


def test_table_a_little_wider_than_text_keeps_its_columns() -> None:
    text = text_of(f"| One | Two |\n|---|---|\n| {'x' * 37} | {'y' * 37} |\n")
    assert [columns(line) for line in text.splitlines()][1:] == [76, 76]


def test_words_of_latin_letters_are_as_wide_as_they_are_long() -> None:
    for word in ("Größe", "“quoted”", "well—almost…", "naïve’s"):
        assert (columns(word), word) == (wcswidth(word), word)
    assert columns("日本") == 4
    assert columns("e\N{COMBINING ACUTE ACCENT}") == 1


def test_narrow_characters_take_one_column_each() -> None:
    narrow = [chr(code) for code in range(0x3000) if NARROW.fullmatch(chr(code))]
    assert len(narrow) > 600
    assert [one for one in narrow if wcswidth(one) != 1] == []
