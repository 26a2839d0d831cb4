"""Bulk inserts on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, func, select

from mailer.database.engine import Database
from mailer.database.rows import insert_rows
from mailer.database.tables import Event

AT = datetime(2026, 3, 4, 10, 0, 0, 123456, tzinfo=UTC)


def row(**different: Any) -> dict[str, Any]:
    return {"at": AT, "kind": "click", "issue_id": 1, "subscriber_id": 2, "details": {"link": 3}} | different


@pytest.mark.parametrize(
    "different",
    [
        {},
        {"issue_id": None, "subscriber_id": None},
        {"subscriber_id": 2**63 - 1},
        {"kind": "'); DROP TABLE"},
        {"kind": 'quoted "\\ ü 😀 ?'},
        {"details": {"machine": "a \"quoted\" 'one' \\", "nested": {"of": [1, None, 2.5, True, "ü"]}}},
        {"details": {}},
    ],
    ids=str,
)
def test_a_row_is_stored_as_it_is_given(database: Database, different: dict[str, Any]) -> None:
    given = row(**different)
    with database.transaction() as connection:
        insert_rows(connection, Event, [given, row()])
    with database.reading() as connection:
        stored = connection.execute(select(Event).order_by(Event.c.id)).first()
        assert {name: getattr(stored, name) for name in given} == given


def test_many_rows_keep_their_order_and_are_one_statement_on_sqlite(database: Database) -> None:
    executed: list[bool] = []

    def note(connection: object, cursor: object, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT"):
            executed.append(rest[-1])

    event.listen(database.engine, "before_cursor_execute", note)
    with database.transaction() as connection:
        insert_rows(connection, Event, [row(subscriber_id=number) for number in range(2_000)])
    if database.is_sqlite:
        assert executed == [False]
    with database.reading() as connection:
        stored = connection.scalars(select(Event.c.subscriber_id).order_by(Event.c.id)).all()
    assert stored == list(range(2_000))


def test_no_rows_execute_no_statement(database: Database) -> None:
    with database.transaction() as connection:
        insert_rows(connection, Event, [])
        assert connection.scalar(select(func.count()).select_from(Event)) == 0
