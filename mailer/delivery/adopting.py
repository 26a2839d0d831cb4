"""Adopt a copied or restored database, without sending again what was sent since the copy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from mailer.database.models import IssueState
from mailer.database.session import Database
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
    with database.transaction() as session:
        held = _hold(session, at)
    lock.adopt(database)
    return held


def _hold(session: Session, at: datetime) -> Held:
    unfinished = [one for one in issues.issues(session) if one.state is IssueState.SENDING]
    for issue in unfinished:
        control.pause(session, issue.id, _REASON)
    overdue = schedule.due(session, at=at)
    for one in overdue:
        schedule.miss(session, one.slug, at=at, why="an older copy of the database may have sent it")
    return Held([issue.slug for issue in unfinished], [one.slug for one in overdue])
