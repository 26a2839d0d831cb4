"""Colours that can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.config import Brand
from mailer.rendering.colour import READABLE, contrast, mixed, readable
from mailer.rendering.html.palette import palette

_COLOURS = st.integers(0, 0xFFFFFF).map(lambda value: f"#{value:06x}")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#ff0000", "#ffffff", 4.0)],
)
def test_contrast_is_that_of_wcag(one: str, other: str, expected: float) -> None:
    assert round(contrast(one, other), 2) == expected
    assert contrast(one, other) == contrast(other, one)


def test_readable_colour_is_left_alone() -> None:
    assert readable("#0b6e4f", "#ffffff") == "#0b6e4f"


@given(_COLOURS, _COLOURS)
def test_any_colour_becomes_readable_on_any_surface(colour: str, surface: str) -> None:
    assert contrast(readable(colour, surface), surface) >= READABLE


@given(_COLOURS, _COLOURS)
def test_mixing_none_or_all_gives_either(one: str, other: str) -> None:
    assert mixed(one, other, 1) == one
    assert mixed(one, other, 0) == other


@given(_COLOURS)
def test_every_text_of_a_mail_is_readable_by_day_and_night(accent: str) -> None:
    colour = palette(Brand(accent=accent))
    assert contrast(colour["on_accent"], accent) >= READABLE
    for name in ("text", "muted", "link"):
        assert contrast(colour[name], colour["surface"]) >= READABLE
        assert contrast(colour[name], colour["page"]) >= READABLE
        assert contrast(colour[f"dark_{name}"], colour["dark_surface"]) >= READABLE
        assert contrast(colour[f"dark_{name}"], colour["dark_page"]) >= READABLE
