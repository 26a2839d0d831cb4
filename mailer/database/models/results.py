"""Reports, events and alerts."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


class StoredReport(Base):
    """An email or webhook about a delivery, kept unchanged so that newer rules can classify it again."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    received_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Text)
    """The source: `maildir:PATH`, `imap:NAME`, `lmtp`, `pipe`, `webhook:PROVIDER`."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the raw octets, which makes duplicates one report."""
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    kind: Mapped[str] = mapped_column(String(24))
    outcome: Mapped[str] = mapped_column(String(24), index=True)
    """applied, ignored, unmatched or foreign."""
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    recipient: Mapped[str] = mapped_column(String(320), default="", server_default="")
    bounce_class: Mapped[str | None] = mapped_column(String(32))
    hard: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Event(Base):
    """An event that no other table records, such as an open, a click or an alert."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


ALERT: Final = "alert"
"""The kind of an event that warns the operator; its details contain the `text`."""
