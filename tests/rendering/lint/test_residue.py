"""Lint sees what readers would see as it was typed."""

from __future__ import annotations

import pytest

from tests.rendering.lint.scene import HTML, SOURCE, found, linted


def of_text(text: str) -> dict[str, str]:
    return found(linted(HTML.replace("<!-- more -->", f"<p>{text}</p>")))


@pytest.mark.parametrize(
    "text",
    [
        "**bold **text", "a[^1] note", "[x](https://example.org", "[ref][nowhere]", "::: info", "x {.buton}",
        "x {width=200}", "==mark==", "[ ] task", "[x] done", "a :smile: b", "H~2~O", "x^2^", "&lt;!-- never",
        "[!NOTE] Mind the gap", "[!Tip]",
    ],
)  # fmt: skip
def test_markup_that_readers_see_is_found(text: str) -> None:
    assert of_text(text) == {"leftover-markup": "warning"}


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 * 4", "a_b_c", "at 10:30:45", "C:\\x: y", "f(x) = y", "[1] and [2]", "50~60", "~5 min", "^_^",
        "{braces}", "a == b", "#hashtag", "snake_case_name", "Vec&lt;T&gt;", "std::vector", "1 &lt; 2 &gt; 0",
        "<code>**x** [a](b) ::: [^1] &lt;b&gt;</code>", "[sic]", "x: y: z",
    ],
)  # fmt: skip
def test_text_that_only_resembles_markup_is_fine(text: str) -> None:
    assert of_text(text) == {}


@pytest.mark.parametrize(
    "address",
    ["htp://example.org", "htps://example.org", "hhtps://example.org", "http:/example.org",
     "https//example.org", "https://https://example.org", "foo:bar"],
)  # fmt: skip
def test_mistyped_address_is_found(address: str) -> None:
    assert of_text(f'<a href="{address}">a page of beans</a>').get("mistyped-link") == "error"


@pytest.mark.parametrize(
    "text",
    [
        "Node.js", "Vue.js 3.5", "Transformers.js: what is new", "README.md", "init.lua", "config.toml",
        "Registry.lock/3", "v1.2.3", "e.g. this", "index.html", "photo.jpg", "Mr. Smith", "main.py", "run.sh",
        "example.org", "www.example.org", "https://example.org/other", "example.org/page",
    ],
)  # fmt: skip
def test_link_text_that_deceives_nobody_is_fine(text: str) -> None:
    assert "deceptive-link" not in of_text(f'<a href="https://example.org/x">{text}</a>')


@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "www.example.com",
        "https://example.com/x",
        "example.com/page",
        "bank.co.uk",
        "paypal.com",
    ],
)
def test_link_text_of_another_address_is_an_error(text: str) -> None:
    assert of_text(f'<a href="https://example.org/x">{text}</a>').get("deceptive-link") == "error"


@pytest.mark.parametrize(("text", "host"), [("one.co.uk", "two.co.uk"), ("a.github.io", "b.github.com")])
def test_owners_are_told_apart_below_public_suffixes(text: str, host: str) -> None:
    assert of_text(f'<a href="https://{host}/x">{text}</a>').get("deceptive-link") == "error"


@pytest.mark.parametrize(
    ("html", "wide"),
    [
        ('<table role="presentation" width="419"><tr><td>x</td></tr></table>', True),
        ('<div style="width:600px">x</div>', True),
        ('<div style="min-width:30em;min-width:400px">x</div>', True),
        (f'<p style="white-space:nowrap">{"x" * 90}</p>', True),
        ('<div style="width:100%;max-width:600px">x</div>', False),
        (
            '<div style="overflow-x:auto"><div style="width:600px">x</div></div>',
            False,
        ),
        ('<p style="white-space:nowrap">2.40 €</p>', False),
    ],
)
def test_what_does_not_fit_on_a_phone_is_found(html: str, wide: bool) -> None:
    assert ("too-wide" in of_text(html)) is wide


@pytest.mark.parametrize(
    ("body", "there"),
    [
        ("Bean\n: A plant.", True),
        ("Words before.\n\nBean\n:   A plant.\n\nWords after.", True),
        ("A sentence\nand: another.", False),
        ("```\nBean\n: A plant.\n```", False),
        ("::: note\nWords.\n:::", False),
        ("| a |\n|:--|\n| b |", False),
    ],
)
def test_definition_list_is_found(body: str, there: bool) -> None:
    report = linted(source=f"{SOURCE}\n{body}\n")
    assert [one.check for one in report.findings if "definition" in one.message] == (
        ["leftover-markup"] if there else []
    )
