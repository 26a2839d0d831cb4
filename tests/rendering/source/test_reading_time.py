"""The reading time."""

import pytest

from mailer.rendering.source.reading_time import count_words, reading_time


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
    assert reading_time(words, exact=True) == expected


@pytest.mark.parametrize(
    ("words", "language", "expected"),
    [
        (0, "en", "1 minute"),
        (370, "en", "1 minute"),
        (380, "en", "2 minutes"),
        (1075, "en", "4 minutes"),
        (750, "de", "3 Minuten"),
        (750, "pl", "3 minuty"),
        (750, "ja", "3 分"),
        (750, "ar", "3 دقائق"),
    ],
)
def test_unless_asked_for_seconds_it_is_whole_minutes(words: int, language: str, expected: str) -> None:
    assert reading_time(words, language=language) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("word " * 250, 250),
        ("读" * 500, 250),
        ("读者" * 250 + " word" * 250, 500),
        ("仮名かなカナ", 3),
        ("한글", 1),
    ],
)
def test_five_hundred_characters_take_as_long_as_half_as_many_words(text: str, words: int) -> None:
    assert count_words(text) == words


def test_slower_readers_take_longer() -> None:
    assert reading_time(200, 100) == "2 minutes"
