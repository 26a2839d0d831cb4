"""Deliveries, letters, and the runs and workers that send them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Float, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base

WAITS = "state IN ('deferred', 'uncertain')"
"""The condition of the partial index of deliveries. A statement must repeat this exact text to use the
index: the database cannot know that a bound value would match it."""


class Delivery(Base):
    """One issue to one subscriber.

    Queued rows are claimed along the primary key, so they need no index. The few that wait for another
    attempt have a partial index, and so do those that failed. The migration creates the same partial
    indexes on PostgreSQL; declaring them here would load its dialect on SQLite too.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        Index(
            "ix_deliveries_open",
            "issue_id",
            "state",
            "due_at",
            sqlite_where=text(WAITS),
            postgresql_where=text(WAITS),
        ),
        Index(
            "ix_deliveries_failed",
            "issue_id",
            "bounce_class",
            sqlite_where=text("state = 'failed'"),
            postgresql_where=text("state = 'failed'"),
        ),
        Index("ix_deliveries_subscriber_id", "subscriber_id"),
        {"sqlite_with_rowid": False},
    )

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
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


class WaitingLetter(Base):
    """An unsettled letter to one subscriber. The row is deleted once it is sent, failed or
    skipped; its event keeps the result.
    """

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), index=True
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
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), index=True)
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


class Worker(Base):
    """A `mailer worker` that is running. The row is deleted when it ends, or when another finds it dead."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    """The operator's name for it; the machine's by default."""
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    place: Mapped[str] = mapped_column(String(128), default="", server_default=text("''"))
    """As in `Run`."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    """When it last reached the database, by the database's clock."""


class SharedLimit(Base):
    """What all runs know of the limits of a relay, a provider or a domain. Times are in seconds on one
    clock; see `mailer.delivery.sharing`."""

    __tablename__ = "limits"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    free_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """From when on no instants for messages are reserved."""
    not_before: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """When a reply allowed the next message."""
    slowed_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    share: Mapped[float] = mapped_column(Float, server_default=text("1"))
    """The fraction of the usual rate that was left then."""
    usual_per_second: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """The rate before that, if none is configured."""


class Seat(Base):
    """The connections of one run under one limit, until it asks again."""

    __tablename__ = "seats"
    __table_args__ = ({"sqlite_with_rowid": False},)

    limit_name: Mapped[str] = mapped_column(String(300), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64), primary_key=True)
    connections: Mapped[int]
    wanted: Mapped[int]
    until: Mapped[float] = mapped_column(Float)


class LatencyBucket(Base):
    """One bucket of a histogram of times, added up over all processes; see `mailer.delivery.latencies`."""

    __tablename__ = "latencies"
    __table_args__ = ({"sqlite_with_rowid": False},)

    measure: Mapped[str] = mapped_column(String(16), primary_key=True)
    relay: Mapped[str] = mapped_column(String(64), primary_key=True)
    provider: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    """The class of a reply, or whether an issue or which letter was accepted."""
    up_to_ms: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """The upper bound in milliseconds; 0 for the bucket without one."""
    number: Mapped[int] = mapped_column(BigInteger)
    microseconds: Mapped[int] = mapped_column(BigInteger)
    """The sum of the measurements in it."""
