"""Attributes compared by what they mean, whether JSON or a CSV file brought them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from mailer.address import parse_address
from mailer.audience.segments import parse_segment
from mailer.audience.subscribers import add
from mailer.audience.transfer import exporting
from mailer.audience.transitions import Origin
from mailer.database.engine import Database


def found(database: Database, at: datetime, value: Any, segment: str) -> bool:
    with database.transaction() as connection:
        add(
            connection,
            parse_address("ana@example.org"),
            secret=b"s" * 32,
            origin=Origin("command"),
            at=at,
            attributes={"it": value},
        )
        return exporting.count(connection, parse_segment(segment, {}).condition) == 1


@pytest.mark.parametrize("value", [9, 9.0, "9", "9.0"])
@pytest.mark.parametrize(
    ("segment", "expected"), [("it < 10", True), ("it > 10", False), ("it = 9", True), ("it != 9", False)]
)
def test_number_as_text_is_a_number(
    database: Database, at: datetime, value: Any, segment: str, expected: bool
) -> None:
    assert found(database, at, value, segment) is expected


@pytest.mark.parametrize("segment", ["it > 0", "it < 0", "it = 0", "it = true", "it = false"])
def test_word_is_neither_a_number_nor_a_boolean(database: Database, at: datetime, segment: str) -> None:
    assert not found(database, at, "nine", segment)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True), ("True", True), ("yes", True), ("1", True),
        (False, False), ("FALSE", False), ("no", False), ("0", False),
    ],
)  # fmt: skip
def test_boolean_as_text_is_a_boolean(database: Database, at: datetime, value: Any, expected: bool) -> None:
    assert found(database, at, value, "it = true") is expected
    assert found(database, at, value, "it = FALSE") is not expected


def test_dates_as_text_are_ordered(database: Database, at: datetime) -> None:
    assert found(database, at, "2026-02-01", "it > 2026-01-31")


@pytest.mark.parametrize(
    "value",
    ["9" * 400, "1e400", "1e-400", "0." + "0" * 400 + "1", "-" + "9" * 300 + "e99", "9" * 100 + "e199",
     "0." + "0" * 99 + "1e-199", "1e+100", 1e100, -1e-100, "٣", "1_000", "0x10", "NaN", "Infinity",
     "--1", "1e", "", None, [1, 2], {"a": 1}],
)  # fmt: skip
@pytest.mark.parametrize("segment", ["it > 1", "it <= 1", "it = true"])
def test_no_value_of_one_person_fails_a_segment(
    database: Database, at: datetime, value: Any, segment: str
) -> None:
    assert found(database, at, value, segment) in (True, False)


@pytest.mark.parametrize("value", ["9" * 100 + "e199", "1e+100", 1e100, "12345678901234567890.5"])
def test_large_number_is_one(database: Database, at: datetime, value: Any) -> None:
    assert found(database, at, value, "it > 1000000")
