"""Stored sign-up requests: each is answered once, and none holds up the others."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, select
from sqlalchemy.exc import ProgrammingError

from mailer.address import parse_address
from mailer.audience.subscribers import find, history
from mailer.audience.transitions import Origin
from mailer.database.engine import Database
from mailer.database.tables import SignUpRequest, WaitingLetter
from mailer.delivery.sign_up import NewSignUp, answer_requests, store_requests
from mailer.errors import StorageError

AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
SECRET = b"0123456789abcdef"
ORIGIN = Origin("form", ip="192.0.2.4", form="subscribe", wording="Subscribe", note="on a page")


def request(address: str = "jo@example.org", *, at: datetime = AT, name: str = "") -> NewSignUp:
    attributes = {"city": "Iași", "n": 1}
    return NewSignUp(parse_address(address), ORIGIN, at, name, "de", attributes, ("vip",))


def store(database: Database, *requests: NewSignUp) -> None:
    with database.transaction() as connection:
        assert store_requests(connection, requests) == [None] * len(requests)


def waiting(database: Database, table: Table[Any]) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_request_becomes_a_pending_subscriber_and_one_letter(database: Database) -> None:
    store(database, request(name="Jo"))
    assert answer_requests(database, secret=SECRET) == 1
    assert answer_requests(database, secret=SECRET) == 0
    assert (waiting(database, SignUpRequest), waiting(database, WaitingLetter)) == (0, 1)
    with database.reading() as connection:
        jo = find(connection, parse_address("jo@example.org"))
        assert jo is not None
        assert (jo.status, jo.name, jo.tags, dict(jo.attributes)) == (
            "pending",
            "Jo",
            ("vip",),
            {"city": "Iași", "n": 1},
        )
        (line,) = history(connection, jo.id)
        letter = connection.execute(select(WaitingLetter)).one()
    assert (line.at, line.way, line.ip, line.form, line.note) == (
        AT,
        "form",
        "192.0.2.4",
        "subscribe",
        "on a page",
    )
    assert (letter.asked_at, letter.language) == (AT, "de")


def test_an_address_gets_one_letter_a_day(database: Database) -> None:
    hours = (0, 1, 23, 24, 25)
    store(database, *(request(at=AT + timedelta(hours=hour)) for hour in hours))
    assert answer_requests(database, secret=SECRET) == 2
    assert waiting(database, SignUpRequest) == 0


def test_more_requests_than_a_batch_are_all_answered(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailer.delivery.sign_up._BATCH", 10)
    store(database, *(request(f"r{number}@example.org") for number in range(25)))
    assert answer_requests(database, secret=SECRET) == 25


def test_request_that_fails_is_dropped_and_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    store(database, request("a@example.org"))
    with database.transaction() as connection:
        connection.execute(
            insert(SignUpRequest),
            [
                {"at": AT, "address": "nobody", "details": {}},
                {"at": AT, "address": "b@example.org", "details": {"origin": {}}},
            ],
        )
    store(database, request("c@example.org"))
    with caplog.at_level(logging.ERROR):
        assert answer_requests(database, secret=SECRET) == 2
    assert len(caplog.records) == 2
    assert waiting(database, SignUpRequest) == 0


def test_requests_wait_while_the_database_cannot_be_written(database: Database) -> None:
    store(database, request())
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE letters RENAME TO hidden")
    with pytest.raises((StorageError, ProgrammingError)):
        answer_requests(database, secret=SECRET)
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO letters")
    assert waiting(database, SignUpRequest) == 1
