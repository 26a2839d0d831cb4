"""Reports, events, alerts, and the daily counts of statistics."""

from __future__ import annotations

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


class LedgerDay(Base):
    """How many people changed from one status to another on a day; counted from the ledger."""

    __tablename__ = "ledger_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Days since 1970 in UTC."""
    before: Mapped[str] = mapped_column(String(16), primary_key=True)
    after: Mapped[str] = mapped_column(String(16), primary_key=True)
    way: Mapped[str] = mapped_column(String(32), primary_key=True)
    people: Mapped[int]


class CohortCount(Base):
    """How many people joined in one month and left in another; counted from the ledger."""

    __tablename__ = "cohorts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    joined_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Such as 2026-03, in UTC."""
    left_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Empty for those who are still active."""
    people: Mapped[int]


class IssueCount(Base):
    """A number about an issue, counted from deliveries, events, reports and the ledger.

    `mailer.reports.counting` lists the facets and measures. Issue 0 holds numbers about the whole list.
    """

    __tablename__ = "issue_counts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    facet: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    measure: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int]
