"""Sequences and digests, which are sent automatically."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base
from mailer.database.models.issues import StoredIssue


class StoredSequence(Base):
    """A sequence of messages, as `mailer sequences apply` stored it."""

    __tablename__ = "sequences"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    trigger: Mapped[str] = mapped_column(String(200))
    """As in config.toml: `confirmed`, `tag:NAME`, `date:ATTRIBUTE` or `api`."""
    goal: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """A segment; its members get no further steps."""
    zone: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    created_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    mark: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """How far the trigger was looked for: the last line of the ledger, or the last hour since 1970."""
    floor: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """The last line of the ledger when the trigger was set; people who confirmed before do not enter."""


class SequenceStep(Base):
    """A step of a sequence. Its messages are the deliveries of its issue."""

    __tablename__ = "sequence_steps"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    sequence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("sequences.id"), index=True)
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey(StoredIssue.id))
    name: Mapped[str] = mapped_column(String(200))
    """The file name without its suffix."""
    position: Mapped[int]
    """From 0; removed steps keep theirs."""
    after_seconds: Mapped[int] = mapped_column(Identifier)
    """The time since the previous step."""
    minute: Mapped[int | None]
    """The time of day, in minutes."""
    days: Mapped[str] = mapped_column(String(7), default="", server_default=text("''"))
    """The days of the week as digits, 0 for Monday; empty for any."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    removed_at: Mapped[datetime | None]


class SequenceMember(Base):
    """A person in a sequence. The row stays when they have finished, so nobody enters twice."""

    __tablename__ = "sequence_members"
    __table_args__ = (
        Index("ix_sequence_members_next_step_id_zone_due_at", "next_step_id", "zone", "due_at"),
        {"sqlite_with_rowid": False},
    )

    sequence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("sequences.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    """No foreign key, as in `Delivery`."""
    entered_at: Mapped[datetime]
    since_at: Mapped[datetime]
    """When the previous step was queued; at first, when they entered."""
    next_step_id: Mapped[int | None] = mapped_column(Identifier)
    """None once they have finished or left."""
    zone: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    """Their time zone; empty for that of the sequence."""
    due_at: Mapped[datetime | None]
    """The earliest time for the next step; its day and hour come on top."""
    ended_at: Mapped[datetime | None]
    why: Mapped[str] = mapped_column(String(16), default="", server_default=text("''"))
    """Why it ended: finished, left, goal, or before for those who had the tag already."""
    line: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """Their last line in the ledger when they entered; later ones tell whether they left."""


class Feed(Base):
    """A feed that issues were made from."""

    __tablename__ = "feeds"
    __table_args__ = ({"sqlite_with_rowid": False},)

    url: Mapped[str] = mapped_column(String(2_000), primary_key=True)
    etag: Mapped[str] = mapped_column(String(1_000), default="", server_default=text("''"))
    modified: Mapped[str] = mapped_column(String(100), default="", server_default=text("''"))
    """The ETag and Last-Modified of the last response, for conditional requests."""


class FeedItem(Base):
    """An item of a feed that was used or skipped; it is never used again."""

    __tablename__ = "feed_items"
    __table_args__ = ({"sqlite_with_rowid": False},)

    url: Mapped[str] = mapped_column(String(2_000), ForeignKey("feeds.url"), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The SHA-256 of its id, its address or its text; an item has a row for each."""
    at: Mapped[datetime]
