"""The alerts of issues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.database.models import ALERT, Event


@dataclass(frozen=True, slots=True)
class Happening:
    """An alert, or one event in an address's history: `what` is its kind, `text` a line for people."""

    at: datetime
    what: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def issue_alerts(session: Session, issue_id: int | None = None, *, limit: int = 10) -> tuple[Happening, ...]:
    """Return the alerts raised for one issue or all, newest first."""
    query = select(Event).where(Event.kind == ALERT).order_by(Event.id.desc()).limit(limit)
    if issue_id is not None:
        query = query.where(Event.issue_id == issue_id)
    return tuple(
        Happening(event.at, ALERT, str(event.details.get("text", "")), event.details)
        for event in session.scalars(query)
    )
