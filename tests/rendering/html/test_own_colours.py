"""Colours of the author's own stay readable when the theme is dark."""

from __future__ import annotations

import pytest

from mailer.rendering.html.own_colours import with_marked_colours
from tests.rendering.scene import edition

DARK = "#1b1e23"


@pytest.mark.parametrize(
    ("html", "marked"),
    [
        ('<span style="color:#222222">x</span>', '<span style="color:#222222" class="own-ink">x</span>'),
        ('<font color="#003300">x</font>', '<font color="#003300" class="own-ink">x</font>'),
        ('<span style="color:#eeeeee">x</span>', '<span style="color:#eeeeee">x</span>'),
        ('<td bgcolor="#ffffcc">x</td>', '<td bgcolor="#ffffcc" class="on-light">x</td>'),
        ('<p style="background:navy">x</p>', '<p style="background:navy" class="on-dark">x</p>'),
        (
            '<p class="a" style="background-color:#eee">x</p>',
            '<p class="on-light a" style="background-color:#eee">x</p>',
        ),
        (
            '<div style="background:#fff"><br><b style="color:#333">x</b></div><b style="color:#333">y</b>',
            '<div style="background:#fff" class="on-light"><br><b style="color:#333">x</b></div>'
            '<b style="color:#333" class="own-ink">y</b>',
        ),
        ('<p style="color:inherit">x</p>', '<p style="color:inherit">x</p>'),
    ],
)
def test_elements_are_marked_by_their_colours(html: str, marked: str) -> None:
    assert with_marked_colours(html, DARK) == marked


def test_dark_theme_has_rules_for_the_marks() -> None:
    made = edition('<p style="background-color:#eeeeee">Pale</p>', raw_html=True)
    assert 'class="on-light"' in made.html
    dark = made.html.partition("prefers-color-scheme: dark")[2]
    assert ".body .on-light" in dark
    assert ".body .own-ink" in dark
