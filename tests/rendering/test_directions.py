"""Right-to-left newsletters: direction, sides, and runs that keep their own."""

from __future__ import annotations

import re

import pytest

from mailer.config import Brand
from mailer.rendering.build import build_edition
from mailer.rendering.edition import Edition
from mailer.rendering.source import parse_issue
from tests.conftest import PROJECT
from tests.rendering.scene import ISSUE, NEWSLETTER, edition, issue_of, received

BODY = """זהו משפט (עם סוגריים), ובו Python 3.12.

- פריט

> ציטוט

| שם | מחיר |
|----|------|
| תה | 3 |

`code` https://example.org/a?b=1

```
x = 1
```

[כפתור](https://example.org/){.button}
"""


@pytest.mark.parametrize("language", ["he", "ar", "fa", "ur", "ar-EG"])
def test_newsletter_of_a_right_to_left_language_is_mirrored(language: str) -> None:
    made = edition(BODY, language=language)
    assert_mirrored(made)


def assert_mirrored(made: Edition) -> None:
    assert 'dir="rtl"' in made.html.split("<body")[0]
    assert "direction:ltr" not in made.html
    for part in ("header", "masthead", "body", "footer"):
        assert re.search(rf'<td[^>]* class="{part}"[^>]*><div [^>]*text-align:right', made.html)
    assert re.search(r'<blockquote style="[^"]*border-right:3px', made.html)
    assert re.search(r'<ul style="[^"]*padding-right:26px', made.html)
    assert '<pre dir="ltr"' in made.html
    assert '<code dir="ltr"' in made.html
    assert re.search(r'<a href="https://example.org/a\?b=1"[^>]* dir="ltr"', made.html)


def test_front_matter_sets_the_language_of_one_issue() -> None:
    issue = parse_issue(issue_of(BODY, language="he"), ISSUE)
    assert_mirrored(build_edition(issue, NEWSLETTER, Brand(), PROJECT / "email_templates"))
    assert "direction:rtl" not in edition("Hello.").html


@pytest.mark.parametrize(
    ("block", "tag"),
    [("שלום", "p"), ("## שלום", "h2"), ("- שלום", "ul"), ("1. שלום", "ol"), ("> שלום", "blockquote"),
     ("| א | ב |\n|--|--|\n| ג | ד |", "table")],
)  # fmt: skip
def test_block_in_a_mixed_issue_has_its_own_direction(block: str, tag: str) -> None:
    got = received(edition(f"Hello.\n\n{{dir=rtl}}\n{block}\n\nBye."))
    marked = [element.tag for element in got.body.iter() if element.get("dir") == "rtl"]
    assert marked == [tag]
    assert "{dir" not in got.text


@pytest.mark.parametrize(
    ("language", "style"),
    [
        ("en", "italic"),
        ("de", "italic"),
        ("he", ""),
        ("ar", ""),
        ("fa", ""),
        ("zh", ""),
        ("ja", ""),
        ("ko", ""),
    ],
)
def test_quotes_are_slanted_only_in_scripts_that_have_italics(language: str, style: str) -> None:
    found = re.search(r'<blockquote[^>]* style="([^"]*)"', edition("> quote", language=language).html)
    assert found is not None
    assert re.findall(r"font-style:(\w+)", found[1]) == ([style] if style else [])


@pytest.mark.parametrize("amount", ["2.5 ס״מ", "120 ש״ח", "2.5 cm", "5 p.m."])
def test_amount_with_its_unit_stays_on_one_line(amount: str) -> None:
    table = f"| a | b |\n|---|---|\n| {amount} | several words in a cell |\n"
    cell = re.search(r'<td[^>]* class="amount"[^>]*>(.*?)</td>', edition(table, language="he").html)
    assert cell is not None
    assert re.sub(r"<[^>]*>", "", cell[1]) == amount


@pytest.mark.parametrize(
    ("block", "tag"),
    [
        ("An English paragraph.", "p"),
        ("A *slanted* [link](https://example.org/) and `code`.", "p"),
        ("- One\n- Two", "ul"),
        ("1. One\n\n   More", "ol"),
        ("> A quotation.\n>\n> In two paragraphs.", "blockquote"),
        ("> שלום\n>\n> A paragraph of a mixed quotation.", "p"),
    ],
)
@pytest.mark.parametrize("kind", ["email", "page"])
def test_block_in_another_script_runs_in_its_own_direction(block: str, tag: str, kind: str) -> None:
    made = edition(f"שלום.\n\n{block}\n\nשלום.", language="he")
    assert _directed(made, kind) == [(tag, "ltr")]


def test_right_to_left_block_of_an_english_newsletter_is_found() -> None:
    made = edition("Hello.\n\nשלום לכולם.\n\n- שלום\n\nHello.")
    assert _directed(made, "email") == [("p", "rtl"), ("ul", "rtl")]
    assert "\nשלום לכולם.\n" in made.text


@pytest.mark.parametrize(
    "block",
    [
        "Python היא שפה.",
        "שלום Python.",
        "- One\n- שלום",
        "## Python",
        "https://example.org/beans",
        "`bean --height`",
        "12.5 %",
        "| One | Two |\n|--|--|\n| Three | Four |",
        "[Button](https://example.org/){.button}",
        "{dir=rtl}\nThe author chose.",
        "{dir=rtl}\n> The author chose.",
    ],
)
def test_other_blocks_follow_the_newsletter(block: str) -> None:
    made = edition(f"שלום.\n\n{block}", language="he")
    assert [one for one in _directed(made, "email") if one[1] == "ltr"] == []


def _directed(made: Edition, kind: str) -> list[tuple[str, str]]:
    """Return the blocks that have a direction of their own, code and addresses left out."""
    html = made.html.split('class="body"')[1] if kind == "email" else made.page
    found = re.findall(
        r"<(p|h[1-6]|ul|ol|blockquote|table)\b[^>]*? dir=\"?(ltr|rtl)", html.split('class="footer"')[0]
    )
    return [(tag, direction) for tag, direction in found]
