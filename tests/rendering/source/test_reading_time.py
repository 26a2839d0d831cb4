"""The reading time."""

import pytest

from mailer.rendering.source.reading_time import reading_time


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (1075, "4 minutes, 18 seconds"),
        (0, "0 seconds"),
        (4, "1 second"),
        (250, "1 minute"),
        (254, "1 minute, 1 second"),
        (500, "2 minutes"),
    ],
)
def test_time_is_said_to_the_second(words: int, expected: str) -> None:
    assert reading_time(words) == expected


def test_slower_readers_take_longer() -> None:
    assert reading_time(200, 100) == "2 minutes"
