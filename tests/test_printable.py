"""Text for a terminal or a log."""

from __future__ import annotations

import pytest

from mailer.printable import counted, whole_number


@pytest.mark.parametrize(
    ("expected", "number"),
    [
        ("0 subscribers", 0),
        ("1 subscriber", 1),
        ("2 subscribers", 2),
        ("1,001 subscribers", 1001),
        ("1,000,000 subscribers", 1_000_000),
    ],
)
def test_noun_takes_an_s_unless_there_is_one(expected: str, number: int) -> None:
    assert counted(number, "subscriber") == expected
    assert counted(number, "reply", "replies") == expected.replace("subscribers", "replies").replace(
        "subscriber", "reply"
    )


@pytest.mark.parametrize(
    ("expected", "text"),
    [(0, "0"), (7, "007"), (10**18 - 1, "9" * 18)]
    + [
        (None, text)
        for text in ("", "9" * 19, "9" * 5_000, "-1", "+1", "1e3", "1_0", " 1", "1.0", "²", "٣", "Ⅷ")
    ],
)
def test_whole_number_is_written_in_few_ascii_digits(expected: int | None, text: str) -> None:
    assert whole_number(text) == expected
