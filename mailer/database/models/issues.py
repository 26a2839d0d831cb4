"""Issues: frozen editions, schedules, canaries and A/B tests."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


class StoredEdition(Base):
    """A frozen rendering, stored under its SHA-256."""

    __tablename__ = "editions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class StoredIssue(Base):
    """An issue that was queued."""

    __tablename__ = "issues"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    title: Mapped[str] = mapped_column(Text)
    source_path: Mapped[str] = mapped_column(Text)
    edition_digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))
    """Its newest edition; the others are in `replaced_editions`."""
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The reason it is paused or was cancelled."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    audience: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many deliveries were queued; counting them would read every row."""
    dated_at: Mapped[datetime]
    """The Date: of every message in the first attempt."""
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    """When the archive first showed it; None while it is not public."""
    canary: Mapped[str | None] = mapped_column(String(16))
    """None without a canary. Until the canary passes, only its members get the issue."""
    canary_until: Mapped[datetime | None]
    """The end of its wait for reports."""
    resend_of: Mapped[int | None] = mapped_column(Identifier)
    """The issue that it repeats for readers who did not react."""
    sequence_id: Mapped[int | None] = mapped_column(Identifier)
    """The sequence that it is a step of; its audience grows as people reach it."""


class ScheduledIssue(Base):
    """An issue that is queued at a set time. The row is deleted when that happens, or it is cancelled."""

    __tablename__ = "schedules"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    source_path: Mapped[str] = mapped_column(Text)
    edition: Mapped[str] = mapped_column(Text)
    """The edition as JSON, frozen when the issue was scheduled."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    due_at: Mapped[datetime]
    zone: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The IANA time zone in which the operator wrote the time; empty for the machine's own."""
    created_at: Mapped[datetime]
    wall_time: Mapped[str] = mapped_column(String(32), default="", server_default=text("''"))
    """The time on the clock at which everyone gets it in their own zone (ISO 8601); empty for one instant.
    Then `due_at` is the instant of the next zone."""
    began_at: Mapped[datetime | None]
    """When its audience was fixed, if it is sent by local time and has begun."""
    missed_at: Mapped[datetime | None]
    """When a worker found that it was too late to send it automatically."""


class ReplacedEdition(Base):
    """An edition of an issue that `mailer amend` has replaced with the next one."""

    __tablename__ = "replaced_editions"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """1 for the edition that was queued first."""
    digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))
    replaced_at: Mapped[datetime]


class CanaryMember(Base):
    """A delivery that goes out before the others of its issue."""

    __tablename__ = "canary_members"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    arm: Mapped[int | None]
    """The arm of an A/B test: 0 is A. None without a test."""


class StoredTest(Base):
    """An A/B test of an issue. Its members are those of the canary."""

    __tablename__ = "ab_tests"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("issues.id"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(String(8))
    """Of the events that decide: `click` or `open`."""
    wait_seconds: Mapped[float] = mapped_column(Float)
    hold: Mapped[bool]
    """Whether a person decides."""
    winner: Mapped[int | None]
    """The arm that everyone else gets; None until it is decided."""
    decided_at: Mapped[datetime | None]
    said: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why that arm won, in words."""


class StoredArm(Base):
    """The edition of an arm of an A/B test."""

    __tablename__ = "arms"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    arm: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))
