"""Deliveries, letters, and the runs that send them."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base
from mailer.database.models.issues import StoredIssue
from mailer.database.models.people import Subscriber

WAITS = "state IN ('deferred', 'uncertain')"
"""The condition of the partial index of deliveries. A statement must repeat this exact text to use the
index: the database cannot know that a bound value would match it."""


class Delivery(Base):
    """One issue to one subscriber.

    Queued rows are claimed along the primary key, so they need no index. The few that wait for another
    attempt have a partial index, and so do those that failed; `Base` makes them partial on PostgreSQL too.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        Index("ix_deliveries_open", "issue_id", "state", "due_at", sqlite_where=text(WAITS)),
        Index("ix_deliveries_failed", "issue_id", "bounce_class", sqlite_where=text("state = 'failed'")),
        Index("ix_deliveries_subscriber_id", "subscriber_id"),
        {"sqlite_with_rowid": False},
    )

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey(StoredIssue.id), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    """No foreign key: the books of an issue outlive an erased subscriber."""
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    run_id: Mapped[int | None] = mapped_column(Identifier)
    due_at: Mapped[datetime | None]
    first_at: Mapped[datetime | None]
    """When the first attempt began; giving up counts from here."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    enhanced: Mapped[str | None] = mapped_column(String(16))
    reply: Mapped[str | None] = mapped_column(Text)
    bounce_class: Mapped[str | None] = mapped_column(String(32))


class RunningTotal(Base):
    """The number of an issue's deliveries in each state, as a sum over `slot`; see
    `mailer.database.running_totals`. One row may have negative numbers."""

    __tablename__ = "running_totals"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey(StoredIssue.id), primary_key=True)
    slot: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    """The server process that added to it; 0 on SQLite, where only one transaction writes at a time."""
    queued: Mapped[int] = mapped_column(BigInteger)
    sending: Mapped[int] = mapped_column(BigInteger)
    sent: Mapped[int] = mapped_column(BigInteger)
    deferred: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int] = mapped_column(BigInteger)
    uncertain: Mapped[int] = mapped_column(BigInteger)
    skipped: Mapped[int] = mapped_column(BigInteger)


class WaitingLetter(Base):
    """An unsettled letter to one subscriber. The row is deleted once it is sent, failed or
    skipped; its event keeps the result.
    """

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey(Subscriber.id, ondelete="CASCADE"), index=True
    )
    kind: Mapped[str] = mapped_column(String(16))
    """confirmation, welcome, goodbye or message."""
    source: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """The text of a message, written as an issue is; empty for the other kinds."""
    language: Mapped[str] = mapped_column(String(35), default="", server_default=text("''"))
    """The language of the person's browser (BCP 47); empty for the newsletter's."""
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(index=True)
    """When the next attempt is due; for a letter being sent, when its claim expires."""
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    state: Mapped[str] = mapped_column(String(16), default="queued", server_default=text("'queued'"))
    """A `DeliveryState`: queued, sending, deferred or uncertain."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    enhanced: Mapped[str | None] = mapped_column(String(16))
    reply: Mapped[str | None] = mapped_column(Text)
    bounce_class: Mapped[str | None] = mapped_column(String(32))


class Run(Base):
    """A sending process. A `sending` delivery names the run that claimed it."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey(StoredIssue.id), index=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    edition: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    """The number of the edition that it sends; 1 unless the issue was amended."""
    place: Mapped[str] = mapped_column(String(128), default="", server_default=text("''"))
    """Distinguishes systems with the same host name; see `mailer.delivery.runs.place`."""
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    """When it last committed, by the database's clock. PostgreSQL only."""
    commits: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many transactions of the run were committed. PostgreSQL only."""
    reason: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why it ended while something was left to send, such as a relay that cannot be reached."""
