"""The text part: narrow, whole, and the same words as the HTML."""

from __future__ import annotations

import html as html_module
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailer.rendering.markdown import parse_markdown
from mailer.rendering.text import Links, columns, render_text, wrap
from tests.rendering.test_build import edition_of

_WORD = st.text(alphabet="abcdefgäößμ字漢…’", min_size=1, max_size=12)

_UNBROKEN = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=200)


def text_of(markdown: str) -> str:
    return render_text(parse_markdown(markdown), Links())


@given(st.lists(_WORD, min_size=1, max_size=80))
def test_no_line_is_wider_than_it_may_be(words: list[str]) -> None:
    for line in text_of(" ".join(words)).splitlines():
        assert columns(line) <= 74


def test_link_is_numbered_and_its_address_stands_whole_at_the_end() -> None:
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


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["{}", "## {}", "> {}", "- {}", "1. {}", "*{}*", "**{}**"]),
            st.lists(st.from_regex(r"[a-z]{2,9}", fullmatch=True), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_html_and_text_hold_the_same_words_in_the_same_order(blocks: list[tuple[str, list[str]]]) -> None:
    # Each word bears its number, so that order and completeness show; marks around them may differ.
    number = iter(range(10_000))
    body = "\n\n".join(
        form.format(" ".join(f"{word}{next(number)}" for word in words)) for form, words in blocks
    )
    edition = edition_of(body)
    wanted = re.findall(r"[a-z]{2,9}\d+", body)
    visible = re.sub(r"<style.*?</style>|<!--.*?-->|<[^>]+>", " ", edition.html, flags=re.DOTALL)
    shown = html_module.unescape(visible)
    known = set(wanted)
    for content in (shown, edition.text):
        assert [word for word in re.findall(r"[a-z]{2,9}\d+", content) if word in known] == wanted
