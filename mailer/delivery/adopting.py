"""Adopt a copied or restored database, without sending again what was sent since the copy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from mailer.database.engine import Database
from mailer.database.tables import IssueState
from mailer.delivery import control, issues, lock, schedule

_REASON = "the database was copied or restored, and what was sent since would be sent again"


@dataclass(frozen=True, slots=True)
class Held:
    """The slugs of the issues that now wait for the operator."""

    paused: list[str]
    missed: list[str]
    """Issues whose scheduled time has passed; they may have been sent."""


def adopt(database: Database, *, at: datetime) -> Held:
    """Accept a database as the one to send from; its unfinished and overdue issues wait for the operator.

    A worker would send them within seconds.
    """
    with database.transaction() as connection:
        held = _hold(connection, at)
    lock.adopt(database)
    return held


def _hold(connection: Connection, at: datetime) -> Held:
    unfinished = [one for one in issues.issues(connection) if one.state is IssueState.SENDING]
    for issue in unfinished:
        control.pause(connection, issue.id, _REASON)
    overdue = schedule.due(connection, at=at)
    for one in overdue:
        schedule.miss(connection, one.slug, at=at, why="an older copy of the database may have sent it")
    return Held([issue.slug for issue in unfinished], [one.slug for one in overdue])
