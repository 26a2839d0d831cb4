"""Chromium gives every element the same style before and after the styles were put on the elements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from premailer import Premailer

from mailer.config import Brand
from mailer.rendering.build import build_edition, build_letter
from mailer.rendering.html import inlining
from mailer.rendering.source import read_issue
from tests.conftest import PROJECT
from tests.oracle.conftest import WIDTHS
from tests.oracle.test_pixels import NEWSLETTER, TEMPLATES

pytestmark = pytest.mark.servers
PROPERTIES = (
    "font-family", "font-size", "font-style", "font-weight", "line-height", "letter-spacing", "color",
    "background-color", "text-align", "text-decoration-line", "text-transform", "white-space", "word-break",
    "vertical-align", "display", "float", "width", "max-width", "height",
    "margin-top", "margin-right", "margin-bottom", "margin-left",
    "padding-top", "padding-right", "padding-bottom", "padding-left",
    "border-top", "border-right", "border-bottom", "border-left",
    "border-top-left-radius", "border-collapse", "opacity",
)  # fmt: skip
SNIPPETS = {
    "headings": "# One\n\n## Two\n\nText.\n\n### Three\n\n#### Four\n\n##### Five\n",
    "emphasis": "Some *soft*, **strong**, ~~gone~~ and ***both***,  \nand a new line.\n",
    "bullets": "- one\n- two\n    - deeper\n        - deepest\n- three\n\n- loose\n\n- looser\n",
    "numbers": "3. three\n4. four\n\n   still four\n\n   1. inner\n",
    "quote": "> A quote.\n>\n> > Within a quote, with `code`.\n>\n> - and a list\n",
    "code": "```python\ndef f(x: int) -> str:\n    return f'{x}'  # note\n```\n\n    indented\n",
    "inline code": "Type `make test` **`now`** in [`a link`](https://example.org/a).\n",
    "table": "| a | b | c |\n|:--|:-:|--:|\n| 1 | *2* | 3 |\n| [x](https://example.org) | `y` | z |\n",
    "link": '[A link](https://example.org/a?b=1&c=2 "title"), <https://example.org>, <a@example.org>\n',
    "image": '![A jar](https://example.org/jar.png "A caption"){width=400}\n',
    "divider": "Before.\n\n---\n\nAfter.\n",
    "footnotes": "A claim[^1], another[^b].\n\n[^1]: The *first* one.\n\n[^b]: The second.\n\n    Goes on.\n",
    "button": "[Go there](https://example.org/go){.button}\n\n[No](https://example.org/q){.button .quiet}\n",
    "call-out": "::: note\nMind the gap, [please](https://example.org).\n\n- one\n:::\n",
    "scripts": "日本語のテキスト、 العربية and emoji 👩‍🚀.\n\n> 引用\n",
}
LETTERS = ("confirmation", "welcome", "goodbye")
ROUGH = Brand(accent="#b00020", text="#222222", surface="#fffdf7", background="#ece7dc")
_READ = """names => [...document.body.querySelectorAll("*")].map(element => {
    const style = getComputedStyle(element);
    return [element.tagName, ...names.map(name => style.getPropertyValue(name))];
})"""


class RecordingPremailer(Premailer):  # type: ignore[misc]
    """Premailer, which also records the document before and after."""

    original = ""
    inlined = ""

    def __init__(self, html: str, css_text: list[str], **options: Any) -> None:
        type(self).original = html.replace("</head>", f"<style>{''.join(css_text)}</style></head>", 1)
        super().__init__(html, css_text=css_text, **options)

    def transform(self, **options: Any) -> str:
        type(self).inlined = str(super().transform(**options))
        return type(self).inlined


def styles(page: Page, html: str) -> list[list[list[str]]]:
    """Return tag and properties of every element of the body, at each width."""
    found = []
    page.set_content(html)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        found.append(page.evaluate(_READ, list(PROPERTIES)))
    return found


def differences(one: list[list[list[str]]], other: list[list[list[str]]]) -> list[str]:
    said = []
    for width, before, after in zip(WIDTHS, one, other, strict=True):
        assert [element[0] for element in before] == [element[0] for element in after]
        for a, b in zip(before, after, strict=True):
            for name, was, now in zip(PROPERTIES, a[1:], b[1:], strict=True):
                if was != now:
                    said.append(f"{width}: <{a[0].lower()}> {name}: {was} became {now}")
    return said


def html_of(name: str, tmp_path: Path, seed: Path | None) -> str:
    if name in LETTERS:
        return build_letter(name, NEWSLETTER, ROUGH, TEMPLATES).html  # type: ignore[arg-type]
    path = seed or PROJECT / "issues" / "001-a-bean-in-a-jar.md"
    if name in SNIPPETS:
        path = tmp_path / "002-snippet.md"
        path.write_text(f"---\ntitle: A snippet\nsubtitle: Of {name}\n---\n\n{SNIPPETS[name]}")
    return build_edition(
        read_issue(path), NEWSLETTER, Brand(), TEMPLATES, public_url="https://n.example"
    ).html


@pytest.mark.parametrize("name", ["seed", "sample", *LETTERS, *SNIPPETS])
def test_inlining_changes_no_computed_style(
    name: str, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(inlining, "Premailer", RecordingPremailer)
    html_of(name, tmp_path, request.getfixturevalue("seed") if name == "seed" else None)
    before, after = styles(page, RecordingPremailer.original), styles(page, RecordingPremailer.inlined)
    assert len(before[0]) > 20
    assert differences(before, after) == []


def test_changed_style_is_seen(page: Page, tmp_path: Path) -> None:
    html = html_of("quote", tmp_path, None)
    changed = html.replace("font-style:italic", "font-style:normal", 1)
    assert changed != html
    assert differences(styles(page, html), styles(page, changed))
