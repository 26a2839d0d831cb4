"""Deliveries, letters, and the runs that send them."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    text,
)

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA
from mailer.database.tables.issues import StoredIssue
from mailer.database.tables.people import Subscriber

WAITS = "state IN ('deferred', 'uncertain')"
"""The condition of the partial index of deliveries. A statement must repeat this exact text to use the
index: the database cannot know that a bound value would match it."""


class DeliveryColumns(TypedColumns):
    """One issue to one subscriber.

    Queued rows are claimed along the primary key, so they need no index. The few that wait for another
    attempt have a partial index, and so do those that failed; `base` makes them partial on PostgreSQL.
    """

    issue_id: Named[int] = Column(Identifier, ForeignKey(StoredIssue.c.id), primary_key=True)
    subscriber_id: Named[int] = Column(Identifier, primary_key=True)
    """No foreign key: the books of an issue outlive an erased subscriber."""
    state: Named[str] = Column(String(16))
    attempts: Named[int] = Column(Integer, default=0, server_default=text("0"))
    run_id: Named[int | None] = Column(Identifier)
    due_at: Named[datetime | None] = Column(Instant)
    first_at: Named[datetime | None] = Column(Instant)
    """When the first attempt began; giving up counts from here."""
    changed_at: Named[datetime | None] = Column(Instant)
    code: Named[int | None] = Column(Integer)
    enhanced: Named[str | None] = Column(String(16))
    reply: Named[str | None] = Column(Text)
    bounce_class: Named[str | None] = Column(String(32))


Delivery = Table(
    "deliveries",
    METADATA,
    DeliveryColumns,
    CheckConstraint("attempts >= 0", name="attempts"),
    Index("ix_deliveries_open", "issue_id", "state", "due_at", sqlite_where=text(WAITS)),
    Index("ix_deliveries_failed", "issue_id", "bounce_class", sqlite_where=text("state = 'failed'")),
    Index("ix_deliveries_subscriber_id", "subscriber_id"),
    sqlite_with_rowid=False,
)


class RunningTotalColumns(TypedColumns):
    """The number of an issue's deliveries in each state, as a sum over `slot`; see
    `mailer.database.running_totals`. One row may have negative numbers."""

    issue_id: Named[int] = Column(Identifier, ForeignKey(StoredIssue.c.id), primary_key=True)
    slot: Named[int] = Column(Identifier, primary_key=True, autoincrement=False)
    """The server process that added to it; 0 on SQLite, where only one transaction writes at a time."""
    queued: Named[int] = Column(BigInteger)
    sending: Named[int] = Column(BigInteger)
    sent: Named[int] = Column(BigInteger)
    deferred: Named[int] = Column(BigInteger)
    failed: Named[int] = Column(BigInteger)
    uncertain: Named[int] = Column(BigInteger)
    skipped: Named[int] = Column(BigInteger)


RunningTotal = Table("running_totals", METADATA, RunningTotalColumns, sqlite_with_rowid=False)


class WaitingLetterColumns(TypedColumns):
    """An unsettled letter to one subscriber. The row is deleted once it is sent, failed or
    skipped; its event keeps the result.
    """

    id: Named[int] = Column(Identifier, primary_key=True)
    subscriber_id: Named[int] = Column(
        Identifier, ForeignKey(Subscriber.c.id, ondelete="CASCADE"), index=True
    )
    kind: Named[str] = Column(String(16))
    """confirmation, welcome, goodbye or message."""
    source: Named[str] = Column(Text, default="", server_default=text("''"))
    """The text of a message, written as an issue is; empty for the other kinds."""
    language: Named[str] = Column(String(35), default="", server_default=text("''"))
    """The language of the person's browser (BCP 47); empty for the newsletter's."""
    asked_at: Named[datetime] = Column(Instant)
    due_at: Named[datetime] = Column(Instant, index=True)
    """When the next attempt is due; for a letter being sent, when its claim expires."""
    attempts: Named[int] = Column(Integer, default=0, server_default=text("0"))
    state: Named[str] = Column(String(16), default="queued", server_default=text("'queued'"))
    """A `DeliveryState`: queued, sending, deferred or uncertain."""
    changed_at: Named[datetime | None] = Column(Instant)
    code: Named[int | None] = Column(Integer)
    enhanced: Named[str | None] = Column(String(16))
    reply: Named[str | None] = Column(Text)
    bounce_class: Named[str | None] = Column(String(32))


WaitingLetter = Table("letters", METADATA, WaitingLetterColumns)


class RunColumns(TypedColumns):
    """A sending process. A `sending` delivery names the run that claimed it."""

    id: Named[int] = Column(Identifier, primary_key=True)
    issue_id: Named[int] = Column(Identifier, ForeignKey(StoredIssue.c.id), index=True)
    host: Named[str] = Column(String(255))
    pid: Named[int] = Column(Integer)
    edition: Named[int] = Column(Integer, default=1, server_default=text("1"))
    """The number of the edition that it sends; 1 unless the issue was amended."""
    place: Named[str] = Column(String(128), default="", server_default=text("''"))
    """Distinguishes systems with the same host name; see `mailer.delivery.runs.place`."""
    started_at: Named[datetime] = Column(Instant)
    ended_at: Named[datetime | None] = Column(Instant)
    seen_at: Named[datetime | None] = Column(Instant)
    """When it last committed, by the database's clock. PostgreSQL only."""
    commits: Named[int] = Column(Integer, default=0, server_default=text("0"))
    """How many transactions of the run were committed. PostgreSQL only."""
    reason: Named[str] = Column(Text, default="", server_default=text("''"))
    """Why it ended while something was left to send, such as a relay that cannot be reached."""


Run = Table("runs", METADATA, RunColumns)
