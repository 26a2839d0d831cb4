"""Issues: frozen editions, schedules, canaries and A/B tests."""

from datetime import datetime

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
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


class StoredEditionColumns(TypedColumns):
    """A frozen rendering, stored under its SHA-256."""

    digest: Named[str] = Column(String(64), primary_key=True)
    content: Named[str] = Column(Text)
    created_at: Named[datetime] = Column(Instant)


StoredEdition = Table("editions", METADATA, StoredEditionColumns)


class StoredIssueColumns(TypedColumns):
    """An issue that was queued."""

    id: Named[int] = Column(Identifier, primary_key=True)
    slug: Named[str] = Column(String(200), unique=True)
    title: Named[str] = Column(Text)
    source_path: Named[str] = Column(Text)
    edition_digest: Named[str] = Column(String(64), ForeignKey("editions.digest"))
    """Its newest edition; the others are in `replaced_editions`."""
    state: Named[str] = Column(String(16))
    reason: Named[str] = Column(Text, default="", server_default="")
    """The reason it is paused or was cancelled."""
    segment: Named[str] = Column(Text, default="", server_default="")
    audience: Named[int] = Column(Integer, default=0, server_default=text("0"))
    """How many deliveries were queued; counting them would read every row."""
    dated_at: Named[datetime] = Column(Instant)
    """The Date: of every message in the first attempt."""
    created_at: Named[datetime] = Column(Instant)
    finished_at: Named[datetime | None] = Column(Instant)
    published_at: Named[datetime | None] = Column(Instant)
    """When the archive first showed it; None while it is not public."""
    canary: Named[str | None] = Column(String(16))
    """None without a canary. Until the canary passes, only its members get the issue."""
    canary_until: Named[datetime | None] = Column(Instant)
    """The end of its wait for reports."""
    resend_of: Named[int | None] = Column(Identifier)
    """The issue that it repeats for readers who did not react."""
    sequence_id: Named[int | None] = Column(Identifier)
    """The sequence that it is a step of; its audience grows as people reach it."""


StoredIssue = Table("issues", METADATA, StoredIssueColumns)


class ScheduledIssueColumns(TypedColumns):
    """An issue that is queued at a set time. The row is deleted when that happens or it is cancelled."""

    id: Named[int] = Column(Identifier, primary_key=True)
    slug: Named[str] = Column(String(200), unique=True)
    source_path: Named[str] = Column(Text)
    edition: Named[str] = Column(Text)
    """The edition as JSON, frozen when the issue was scheduled."""
    segment: Named[str] = Column(Text, default="", server_default="")
    due_at: Named[datetime] = Column(Instant)
    zone: Named[str] = Column(String(64), default="", server_default="")
    """The IANA time zone in which the operator wrote the time; empty for the machine's own."""
    created_at: Named[datetime] = Column(Instant)
    wall_time: Named[str] = Column(String(32), default="", server_default=text("''"))
    """The time on the clock at which everyone gets it in their own zone (ISO 8601); empty for one instant.
    Then `due_at` is the instant of the next zone."""
    began_at: Named[datetime | None] = Column(Instant)
    """When its audience was fixed, if it is sent by local time and has begun."""
    missed_at: Named[datetime | None] = Column(Instant)
    """When a worker found that it was too late to send it automatically."""


ScheduledIssue = Table("schedules", METADATA, ScheduledIssueColumns)


class ReplacedEditionColumns(TypedColumns):
    """An edition of an issue that `mailer amend` has replaced with the next one."""

    issue_id: Named[int] = Column(Identifier, ForeignKey("issues.id"), primary_key=True)
    number: Named[int] = Column(Integer, primary_key=True)
    """1 for the edition that was queued first."""
    digest: Named[str] = Column(String(64), ForeignKey("editions.digest"))
    replaced_at: Named[datetime] = Column(Instant)


ReplacedEdition = Table("replaced_editions", METADATA, ReplacedEditionColumns, sqlite_with_rowid=False)


class CanaryMemberColumns(TypedColumns):
    """A delivery that goes out before the others of its issue."""

    issue_id: Named[int] = Column(Identifier, ForeignKey("issues.id"), primary_key=True)
    subscriber_id: Named[int] = Column(Identifier, primary_key=True)
    arm: Named[int | None] = Column(Integer)
    """The arm of an A/B test: 0 is A. None without a test."""


CanaryMember = Table("canary_members", METADATA, CanaryMemberColumns, sqlite_with_rowid=False)


class StoredTestColumns(TypedColumns):
    """An A/B test of an issue. Its members are those of the canary."""

    issue_id: Named[int] = Column(Identifier, ForeignKey("issues.id"), primary_key=True, autoincrement=False)
    kind: Named[str] = Column(String(8))
    """Of the events that decide: `click` or `open`."""
    wait_seconds: Named[float] = Column(Float)
    hold: Named[bool] = Column(Boolean)
    """Whether a person decides."""
    winner: Named[int | None] = Column(Integer)
    """The arm that everyone else gets; None until it is decided."""
    decided_at: Named[datetime | None] = Column(Instant)
    said: Named[str] = Column(Text, default="", server_default=text("''"))
    """Why that arm won, in words."""


StoredTest = Table("ab_tests", METADATA, StoredTestColumns, sqlite_with_rowid=False)


class StoredArmColumns(TypedColumns):
    """The edition of an arm of an A/B test."""

    issue_id: Named[int] = Column(Identifier, ForeignKey("issues.id"), primary_key=True)
    arm: Named[int] = Column(Integer, primary_key=True)
    digest: Named[str] = Column(String(64), ForeignKey("editions.digest"))


StoredArm = Table("arms", METADATA, StoredArmColumns, sqlite_with_rowid=False)
