"""The alerts of issues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from mailer.database.tables import ALERT, Event


@dataclass(frozen=True, slots=True)
class Happening:
    """An alert, or one event in an address's history: `what` is its kind, `text` a line for people."""

    at: datetime
    what: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def issue_alerts(
    connection: Connection, issue_id: int | None = None, *, limit: int = 10
) -> tuple[Happening, ...]:
    """Return the alerts raised for one issue or all, newest first."""
    query = select(Event.c.at, Event.c.details).where(Event.c.kind == ALERT)
    if issue_id is not None:
        query = query.where(Event.c.issue_id == issue_id)
    return tuple(
        Happening(event.at, ALERT, str(event.details.get("text", "")), event.details)
        for event in connection.execute(query.order_by(Event.c.id.desc()).limit(limit))
    )
