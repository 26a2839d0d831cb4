"""How lists, call-outs and cells are drawn."""

from __future__ import annotations

import re

import pytest

from tests.rendering.scene import edition


@pytest.mark.parametrize(
    ("first", "items", "name"), [(1, 9, ""), (98, 2, ""), (98, 3, "digits3"), (2024, 1, "digits4")]
)
def test_long_list_numbers_get_more_room(first: int, items: int, name: str) -> None:
    made = edition("".join(f"{first + at}. item\n" for at in range(items)))
    for html in (made.html, made.page):
        found = re.search(r"<ol[^>]*>", html)
        assert found is not None
        assert re.findall(r'class="(\w*)"', found[0]) == ([name] if name else [])
    if name:
        room = re.search(r"<ol[^>]*padding-left:(\d+)px", made.html)
        assert room is not None
        assert int(room[1]) >= 10 * int(name.removeprefix("digits")) + 8


@pytest.mark.parametrize(
    ("language", "title"),
    [("en", "Note"), ("de", "Hinweis"), ("ar", "ملاحظة"), ("ja", "メモ"), ("sw", "Note")],
)
def test_call_out_without_a_title_is_named_in_the_language(language: str, title: str) -> None:
    made = edition("::: note\nWords.\n:::\n\n::: note My own\nWords.\n:::\n", language=language)
    for part in (made.html, made.page, made.text):
        assert (title in part, "My own" in part) == (True, True)


@pytest.mark.parametrize(
    ("cell", "whole"),
    [
        ("あり", True),
        ("商品名", True),
        ("2026年11月25日", True),
        ("1,200円", True),
        ("3시간 30분", False),
        ("2h 30m", True),
        ("数量限定のため", False),
    ],
)
def test_short_cells_of_scripts_without_spaces_stay_on_one_line(cell: str, whole: bool) -> None:
    html = edition(f"| a | b |\n|---|---|\n| {cell} | some more words |\n").html
    assert bool(re.search(r'<td[^>]* class="amount"', html)) is whole
