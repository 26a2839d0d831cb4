"""The audit log: who did what in the console, when, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.database.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    at: datetime
    who: str
    act: str
    about: str
    details: Mapping[str, Any]


def record(
    session: Session, who: str, act: str, about: str, details: Mapping[str, Any], *, at: datetime
) -> None:
    """Add an entry. Subscribers are named by id, so that erasing one leaves nothing behind."""
    session.add(AuditEntry(at=at, who=who, act=act, about=about, details=dict(details)))


def entries(session: Session, *, act: str = "", about: str = "", limit: int = 100) -> list[Entry]:
    """Return the latest entries, newest first; of one act, or about one thing, if given."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if act:
        query = query.where(AuditEntry.act == act)
    if about:
        query = query.where(AuditEntry.about == about)
    return [Entry(row.at, row.who, row.act, row.about, row.details) for row in session.scalars(query)]
