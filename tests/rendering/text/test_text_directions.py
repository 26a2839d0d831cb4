"""Right-to-left text: lines begin on the right, and addresses and code can be copied."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.rendering.source.markdown import parse_markdown
from mailer.rendering.text.blocks import Links, render_text
from mailer.rendering.text.directions import (
    FSI,
    LRI,
    LRM,
    MARKS,
    PDI,
    RLM,
    begins_right_to_left,
    is_right_to_left,
)
from mailer.rendering.text.layout import columns
from tests.rendering.scene import edition

HEBREW = ("שלום", "עולם", "תוכנית", "גדולה", "מאוד", "ה-", "(סוף)")
ARABIC = ("مرحبا", "بالعالم", "برنامج")
LATIN = (
    "Python",
    "3.12",
    "`--height`",
    "2026",
    "https://example.org/",
    "https://example.org/a?b=1",
    "(x)",
    "*so*",
)


def text_of(body: str, *, rtl: bool) -> str:
    return render_text(parse_markdown(body), Links(rtl=rtl))


def unmarked(text: str) -> str:
    bare = "".join(character for character in text if character not in MARKS)
    return "\n".join(line.rstrip() for line in bare.split("\n"))


@st.composite
def bodies(draw: st.DrawFn) -> str:
    words = st.lists(st.sampled_from(HEBREW + ARABIC + LATIN), min_size=1, max_size=30).map(" ".join)
    cells = st.sampled_from(HEBREW + LATIN)
    blocks = st.one_of(
        words,
        words.map(lambda text: f"> {text}"),
        words.map(lambda text: f"## {text}"),
        st.lists(words, min_size=1, max_size=3).map(lambda lines: "\n".join(f"- {one}" for one in lines)),
        st.lists(st.tuples(cells, cells), min_size=1, max_size=3).map(
            lambda rows: "\n".join(["| שם | what |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
        ),
    )
    return "\n\n".join(draw(st.lists(blocks, min_size=1, max_size=4)))


@given(body=bodies())
def test_marks_change_neither_words_nor_lines_nor_addresses_nor_code(body: str) -> None:
    marked, plain = text_of(body, rtl=True), text_of(body, rtl=False)
    assert unmarked(marked) == unmarked(plain)
    assert [columns(line.rstrip()) for line in unmarked(marked).split("\n")] == [
        columns(line.rstrip()) for line in plain.split("\n")
    ]
    assert not MARKS & set(plain)
    for part in (*re.findall(r"https?://\S*", marked), *re.findall(r"`[^`]*`", marked)):
        assert not MARKS & set(part)


@given(words=st.lists(st.sampled_from(HEBREW + ARABIC + LATIN), min_size=1, max_size=40))
def test_every_line_of_a_right_to_left_paragraph_begins_on_the_right(words: list[str]) -> None:
    text = text_of(" ".join(words), rtl=True)
    lines = [line for line in text.split("\n") if line]
    if is_right_to_left(text):
        assert all(begins_right_to_left(line) for line in lines)
    else:
        assert RLM not in text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Python היא שפה", f"{RLM}Python היא שפה"),
        ("שפה ושמה Python", "שפה ושמה Python"),
        ("English only.", "English only."),
        ("- Rust היא", f"- {RLM}Rust היא"),
        ("> Rust היא", f"> {RLM}Rust היא"),
        ("הפקודה `--height`.", f"הפקודה {LRI}`--height`{PDI}."),
        ("https://example.org/ כאן", f"{RLM}https://example.org/ {LRM}כאן"),
        ("כאן https://example.org/", f"כאן https://example.org/ {LRM}"),
        ("כאן https://example.org/a", "כאן https://example.org/a"),
        ("כאן https://example.org/.", f"כאן https://example.org/. {LRM}"),
        ("(כאן https://example.org/) סוף", f"(כאן https://example.org/) {LRM}סוף"),
        ("{dir=ltr}\nEnglish שלום", "English שלום"),
        ("    x = 1  # שלום", "    x = 1  # שלום"),
        (
            "| שם | what |\n|---|---|\n| Go | Rust |",
            f"שם   {FSI}what{PDI}\n{RLM}---  ----\n{RLM}{FSI}Go{PDI}   {FSI}Rust{PDI}",
        ),
    ],
)
def test_marks_stand_where_they_are_needed(body: str, expected: str) -> None:
    assert text_of(body, rtl=True) == expected


def test_block_of_the_other_direction_is_marked_by_itself() -> None:
    body = "Hello שלום.\n\n{dir=rtl}\nPython היא שפה\n\nHello שלום."
    assert text_of(body, rtl=False) == f"Hello שלום.\n\n{RLM}Python היא שפה\n\nHello שלום."


def test_title_and_subtitle_are_marked_by_the_language() -> None:
    for language, mark in (("he", RLM), ("en", "")):
        made = edition("שלום", language=language, title='"Python שלנו"', subtitle='"Rust שלכם"')
        assert made.text.startswith(f"{mark}Python שלנו\n")
        assert f"\n{mark}Rust שלכם\n" in made.text
