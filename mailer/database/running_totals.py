"""Running totals of an issue's deliveries by state: counting a million rows would take a second.

Each transaction that changes the states of deliveries also adds these changes to the totals. On PostgreSQL,
each server process adds to a row of its own, so no transaction waits for another; the totals are the sums of
these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, IssueState, RunningTotal, StoredIssue

_STATES: Final = tuple(state.value for state in DeliveryState)
_FOLD_FROM: Final = 64
"""How many rows an issue may have before they become one."""


def _adding(issue: str, slot: str, values: Iterable[str]) -> str:
    """Return the SQL that adds to the totals of an issue, given each value as SQL."""
    sums = ", ".join(f"{name} = running_totals.{name} + excluded.{name}" for name in _STATES)
    return (
        f"INSERT INTO running_totals (issue_id, slot, {', '.join(_STATES)})"  # noqa: S608 - names of columns
        f" VALUES ({issue}, {slot}, {', '.join(values)}) ON CONFLICT (issue_id, slot) DO UPDATE SET {sums}"
    )


ADD_ON_POSTGRESQL: Final = _adding(":_total_of", "pg_backend_pid()", (f":_more_{name}" for name in _STATES))
"""Adds `parameters` to the totals. As a CTE, it saves another statement its round trip."""
_ADD_ON_POSTGRESQL: Final = text(ADD_ON_POSTGRESQL)
_ADD_ON_SQLITE: Final = _adding("?", "0", "?" * len(_STATES))
_OF: Final = RunningTotal.c.issue_id == bindparam("issue_id")
_SUMS: Final = [func.coalesce(func.sum(RunningTotal.c[name]), 0) for name in _STATES]
_TOTALS: Final = select(*_SUMS).where(_OF)
_NEWEST: Final = select(
    select(StoredIssue.c.state).where(StoredIssue.c.id == bindparam("issue_id")).scalar_subquery(), *_SUMS
).where(_OF)


def parameters(issue_id: int, changes: Mapping[str, int]) -> dict[str, int]:
    """Return the parameters of `ADD_ON_POSTGRESQL` for these changes, by state."""
    return {"_total_of": issue_id, **{f"_more_{name}": changes.get(name, 0) for name in _STATES}}


def add(connection: Connection, issue_id: int, changes: Mapping[str, int]) -> None:
    """Add to an issue's totals the changes in its number of deliveries, by state."""
    if not any(changes.values()):
        return
    if connection.dialect.name == "sqlite":
        # This runs twice in each transaction of a run, and SQLAlchemy would take longer than SQLite.
        values = (issue_id, *(changes.get(name, 0) for name in _STATES))
        connection.exec_driver_sql(_ADD_ON_SQLITE, values)
    else:
        connection.execute(_ADD_ON_POSTGRESQL, parameters(issue_id, changes))


def move(
    connection: Connection, issue_id: int, number: int, before: DeliveryState, after: DeliveryState
) -> None:
    """Note that this many deliveries moved from one state to another."""
    add(connection, issue_id, {before.value: -number, after.value: number})


def totals_of(connection: Connection, issue_id: int) -> dict[str, int]:
    """Return the number of an issue's deliveries in each state, by name."""
    row = connection.execute(_TOTALS, {"issue_id": issue_id}).one()
    return dict(zip(_STATES, map(int, row), strict=True))


def newest(database: Database, issue_id: int) -> tuple[IssueState | None, dict[str, int]]:
    """Return an issue's state and its totals, as of the newest commit; the state is None if it is gone.

    Much faster than in a transaction, for a page that looks twice a second.
    """
    values = {"issue_id": issue_id}
    if database.path is not None:
        ((state, *totals),) = database.look(_NEWEST, values)
    else:
        with database.reading() as connection:
            state, *totals = connection.execute(_NEWEST, values).one()
    return IssueState(state) if state else None, dict(zip(_STATES, map(int, totals), strict=True))


def fold(connection: Connection, issue_id: int) -> None:
    """Make one row of the rows that many server processes have left.

    It skips rows that another transaction is changing. Call it last in a transaction: a run whose row it
    has locked waits until the end.
    """
    every = select(RunningTotal).where(RunningTotal.c.issue_id == issue_id)
    rows = connection.execute(every.with_for_update(skip_locked=True)).all()
    if len(rows) < _FOLD_FROM:
        return
    slots = [row.slot for row in rows]
    sums = {name: sum(getattr(row, name) for row in rows) for name in _STATES}
    these = RunningTotal.c.issue_id == issue_id
    connection.execute(delete(RunningTotal).where(these, RunningTotal.c.slot.in_(slots[1:])))
    connection.execute(update(RunningTotal).where(these, RunningTotal.c.slot == slots[0]).values(sums))
