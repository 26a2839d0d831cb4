"""Text for a terminal or a log."""

from __future__ import annotations

import pytest

from mailer.printable import counted


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
