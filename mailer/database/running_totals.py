"""Running totals of an issue's deliveries by state: counting a million rows would take a second.

Each transaction that changes the states of deliveries also adds these changes to the totals. On PostgreSQL,
each server process adds to a row of its own, so no transaction waits for another; the totals are the sums of
these rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.orm import Session

from mailer.database.models import DeliveryState, IssueState, RunningTotal, StoredIssue
from mailer.database.session import Database

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
_OF: Final = RunningTotal.issue_id == bindparam("issue_id")
_SUMS: Final = [func.coalesce(func.sum(getattr(RunningTotal, name)), 0) for name in _STATES]
_TOTALS: Final = select(*_SUMS).where(_OF)
_NEWEST: Final = select(
    select(StoredIssue.state).where(StoredIssue.id == bindparam("issue_id")).scalar_subquery(), *_SUMS
).where(_OF)


def parameters(issue_id: int, changes: Mapping[str, int]) -> dict[str, int]:
    """Return the parameters of `ADD_ON_POSTGRESQL`: by how much the number in each state changes."""
    return {"_total_of": issue_id, **{f"_more_{name}": changes.get(name, 0) for name in _STATES}}


def add(session: Session, issue_id: int, changes: Mapping[str, int]) -> None:
    """Add to the totals of an issue by how much the number of deliveries in each state changes."""
    if not any(changes.values()):
        return
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        # Twice in each transaction of a run, and SQLAlchemy would take longer than SQLite does.
        values = (issue_id, *(changes.get(name, 0) for name in _STATES))
        connection.exec_driver_sql(_ADD_ON_SQLITE, values)
    else:
        connection.execute(_ADD_ON_POSTGRESQL, parameters(issue_id, changes))


def move(session: Session, issue_id: int, number: int, before: DeliveryState, after: DeliveryState) -> None:
    """Note that this many deliveries moved from one state to another."""
    add(session, issue_id, {before.value: -number, after.value: number})


def totals_of(session: Session, issue_id: int) -> dict[str, int]:
    """Return the number of an issue's deliveries in each state, by name."""
    row = session.connection().execute(_TOTALS, {"issue_id": issue_id}).one()
    return dict(zip(_STATES, map(int, row), strict=True))


def newest(database: Database, issue_id: int) -> tuple[IssueState | None, dict[str, int]]:
    """Return an issue's state and its totals, as of the newest commit; the state is None if it is gone.

    Much faster than in a session, for a page that looks twice a second.
    """
    values = {"issue_id": issue_id}
    if database.path is not None:
        ((state, *totals),) = database.look(_NEWEST, values)
    else:
        with database.reading() as session:
            state, *totals = session.connection().execute(_NEWEST, values).one()
    return IssueState(state) if state else None, dict(zip(_STATES, map(int, totals), strict=True))


def fold(session: Session, issue_id: int) -> None:
    """Make one row of the rows that many server processes have left.

    It skips rows that another transaction is changing. Call it last in a transaction: a run whose row it
    has locked waits until the end.
    """
    every = select(RunningTotal).where(RunningTotal.issue_id == issue_id)
    locked = every.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    rows = session.scalars(locked).all()
    if len(rows) < _FOLD_FROM:
        return
    first = rows[0]
    for other in rows[1:]:
        for name in _STATES:
            setattr(first, name, getattr(first, name) + getattr(other, name))
        session.delete(other)
    session.flush()
