"""The audit log: who did what in the console, when, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from mailer.database.tables import AuditEntry


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    at: datetime
    who: str
    act: str
    about: str
    details: Mapping[str, Any]


def record(
    connection: Connection, who: str, act: str, about: str, details: Mapping[str, Any], *, at: datetime
) -> None:
    """Add an entry. Subscribers are named by id, so that erasing one leaves nothing behind."""
    connection.execute(insert(AuditEntry).values(at=at, who=who, act=act, about=about, details=dict(details)))


def entries(connection: Connection, *, act: str = "", about: str = "", limit: int = 100) -> list[Entry]:
    """Return the latest entries, newest first; of one act, or about one thing, if given."""
    columns = AuditEntry.c.at, AuditEntry.c.who, AuditEntry.c.act, AuditEntry.c.about, AuditEntry.c.details
    query = select(*columns).order_by(AuditEntry.c.id.desc()).limit(limit)
    if act:
        query = query.where(AuditEntry.c.act == act)
    if about:
        query = query.where(AuditEntry.c.about == about)
    return [Entry(*row) for row in connection.execute(query)]
