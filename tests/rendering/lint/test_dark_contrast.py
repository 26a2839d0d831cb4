"""Lint looks at the contrast in both colour schemes."""

from __future__ import annotations

import pytest

from tests.rendering.lint.scene import HTML, found, linted

LIGHT_CELL = '<table><tr><td class="a" bgcolor="#ffffcc">Words</td></tr></table>'
STYLE = "<style>@media (prefers-color-scheme: dark) {{ {0} }}</style></head>"


def checks(rules: str, body: str) -> dict[str, str]:
    html = HTML.replace("</head>", STYLE.format(rules)).replace("<!-- more -->", body)
    return found(linted(html))


@pytest.mark.parametrize(
    ("rules", "body", "is_found"),
    [
        (".a { background: #222222 !important }", '<div class="a" style="color: #333333">Words</div>', True),
        (".a { background: #222222 }", '<div class="a" style="color: #333333">Words</div>', True),
        (
            ".a { background: #222222 !important } .a p { color: #eeeeee !important }",
            '<div class="a"><p style="color: #333333">Words</p></div>',
            False,
        ),
        (".a { color: #eeeeee !important }", '<p class="a" style="background: #ffffcc">Words</p>', True),
        (".a { color: #eeeeee !important }", LIGHT_CELL, True),
        (".a { color: #eeeeee }", '<p class="a" style="color: #333; background: #ffc">Words</p>', False),
        (".a { color: #eeeeee !important }", '<p class="b" style="background: #ffffcc">Words</p>', False),
        (".a { color: #eeeeee !important; background: #222 !important }", '<p class="a">Words</p>', False),
        (".a { color: #dddddd !important }", '<p class="a" style="background: #ffffff"><br></p>', False),
    ],
)  # fmt: skip
def test_text_that_the_dark_theme_hides_is_found(rules: str, body: str, is_found: bool) -> None:
    assert ("contrast" in checks(rules, body)) == is_found


def test_rules_for_light_screens_do_not_count_in_the_dark() -> None:
    rules = "} @media (prefers-color-scheme: light) { .a { background: #ffffff !important }"
    assert "contrast" not in checks(rules, '<p class="a" style="color:#eee;background:#111">Words</p>')
