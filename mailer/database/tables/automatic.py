"""Sequences and digests, which are sent automatically."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, Integer, Named, String, Table, Text, TypedColumns, text

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA
from mailer.database.tables.issues import StoredIssue


class StoredSequenceColumns(TypedColumns):
    """A sequence of messages, as `mailer sequences apply` stored it."""

    id: Named[int] = Column(Identifier, primary_key=True)
    name: Named[str] = Column(String(64), unique=True)
    trigger: Named[str] = Column(String(200))
    """As in config.toml: `confirmed`, `tag:NAME`, `date:ATTRIBUTE` or `api`."""
    goal: Named[str] = Column(Text, default="", server_default=text("''"))
    """A segment; its members get no further steps."""
    zone: Named[str] = Column(String(64), default="", server_default=text("''"))
    created_at: Named[datetime] = Column(Instant)
    paused_at: Named[datetime | None] = Column(Instant)
    mark: Named[int] = Column(Identifier, default=0, server_default=text("0"))
    """How far the trigger was looked for: the last line of the ledger, or the last hour since 1970."""
    floor: Named[int] = Column(Identifier, default=0, server_default=text("0"))
    """The last line of the ledger when the trigger was set; people who confirmed before do not enter."""


StoredSequence = Table("sequences", METADATA, StoredSequenceColumns)


class SequenceStepColumns(TypedColumns):
    """A step of a sequence. Its messages are the deliveries of its issue."""

    id: Named[int] = Column(Identifier, primary_key=True)
    sequence_id: Named[int] = Column(Identifier, ForeignKey("sequences.id"), index=True)
    issue_id: Named[int] = Column(Identifier, ForeignKey(StoredIssue.c.id))
    name: Named[str] = Column(String(200))
    """The file name without its suffix."""
    position: Named[int] = Column(Integer)
    """From 0; removed steps keep theirs."""
    after_seconds: Named[int] = Column(Identifier)
    """The time since the previous step."""
    minute: Named[int | None] = Column(Integer)
    """The time of day, in minutes."""
    days: Named[str] = Column(String(7), default="", server_default=text("''"))
    """The days of the week as digits, 0 for Monday; empty for any."""
    segment: Named[str] = Column(Text, default="", server_default=text("''"))
    removed_at: Named[datetime | None] = Column(Instant)


SequenceStep = Table("sequence_steps", METADATA, SequenceStepColumns)


class SequenceMemberColumns(TypedColumns):
    """A person in a sequence. The row stays when they have finished, so nobody enters twice."""

    sequence_id: Named[int] = Column(Identifier, ForeignKey("sequences.id"), primary_key=True)
    subscriber_id: Named[int] = Column(Identifier, primary_key=True)
    """No foreign key, as in `Delivery`."""
    entered_at: Named[datetime] = Column(Instant)
    since_at: Named[datetime] = Column(Instant)
    """When the previous step was queued; at first, when they entered."""
    next_step_id: Named[int | None] = Column(Identifier)
    """None once they have finished or left."""
    zone: Named[str] = Column(String(64), default="", server_default=text("''"))
    """Their time zone; empty for that of the sequence."""
    due_at: Named[datetime | None] = Column(Instant)
    """The earliest time for the next step; its day and hour come on top."""
    ended_at: Named[datetime | None] = Column(Instant)
    why: Named[str] = Column(String(16), default="", server_default=text("''"))
    """Why it ended: finished, left, goal, or before for those who had the tag already."""
    line: Named[int] = Column(Identifier, default=0, server_default=text("0"))
    """Their last line in the ledger when they entered; later ones tell whether they left."""


SequenceMember = Table(
    "sequence_members",
    METADATA,
    SequenceMemberColumns,
    Index("ix_sequence_members_next_step_id_zone_due_at", "next_step_id", "zone", "due_at"),
    sqlite_with_rowid=False,
)


class FeedColumns(TypedColumns):
    """A feed that issues were made from."""

    url: Named[str] = Column(String(2_000), primary_key=True)
    etag: Named[str] = Column(String(1_000), default="", server_default=text("''"))
    modified: Named[str] = Column(String(100), default="", server_default=text("''"))
    """The ETag and Last-Modified of the last response, for conditional requests."""


Feed = Table("feeds", METADATA, FeedColumns, sqlite_with_rowid=False)


class FeedItemColumns(TypedColumns):
    """An item of a feed that was used or skipped; it is never used again."""

    url: Named[str] = Column(String(2_000), ForeignKey("feeds.url"), primary_key=True)
    key: Named[str] = Column(String(64), primary_key=True)
    """The SHA-256 of its id, its address or its text; an item has a row for each."""
    at: Named[datetime] = Column(Instant)


FeedItem = Table("feed_items", METADATA, FeedItemColumns, sqlite_with_rowid=False)
