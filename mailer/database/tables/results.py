"""Reports, events and alerts."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Index,
    LargeBinary,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    text,
)

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA


class StoredReportColumns(TypedColumns):
    """An email or webhook about a delivery, kept unchanged so that newer rules can classify it again."""

    id: Named[int] = Column(Identifier, primary_key=True)
    received_at: Named[datetime] = Column(Instant)
    source: Named[str] = Column(Text)
    """The source: `maildir:PATH`, `imap:NAME`, `lmtp`, `pipe`, `webhook:PROVIDER`."""
    digest: Named[str] = Column(String(64), unique=True)
    """SHA-256 of the raw octets, which makes duplicates one report."""
    raw: Named[bytes] = Column(LargeBinary)
    kind: Named[str] = Column(String(24))
    outcome: Named[str] = Column(String(24), index=True)
    """applied, ignored, unmatched or foreign."""
    issue_id: Named[int | None] = Column(Identifier)
    subscriber_id: Named[int | None] = Column(Identifier, index=True)
    recipient: Named[str] = Column(String(320), default="", server_default="")
    bounce_class: Named[str | None] = Column(String(32))
    hard: Named[bool] = Column(Boolean, default=False, server_default=text("false"))
    details: Named[dict[str, Any]] = Column(JSON, default=dict)


StoredReport = Table(
    "reports", METADATA, StoredReportColumns, Index("ix_reports_issue_id_kind", "issue_id", "kind")
)


class EventColumns(TypedColumns):
    """An event that no other table records, such as an open, a click or an alert."""

    id: Named[int] = Column(Identifier, primary_key=True)
    at: Named[datetime] = Column(Instant)
    kind: Named[str] = Column(String(32))
    issue_id: Named[int | None] = Column(Identifier)
    subscriber_id: Named[int | None] = Column(Identifier, index=True)
    details: Named[dict[str, Any]] = Column(JSON, default=dict)


Event = Table("events", METADATA, EventColumns, Index("ix_events_issue_id_kind", "issue_id", "kind"))


ALERT: Final = "alert"
"""The kind of an event that warns the operator; its details contain the `text`."""
