"""Subscribers, and who gets no mail."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    text,
)

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA

NO_SOFT_BOUNCES: Final = {"soft_points": 0.0, "soft_since": None}
"""The values of a subscriber whose soft bounces are forgotten."""
SOFT_BOUNCE: Final = "soft_bounce"
"""The kind of event that a soft bounce leaves."""


class SubscriberColumns(TypedColumns):
    """A person on the list. `address` is kept as written; `address_key` is case-folded and unique."""

    id: Named[int] = Column(Identifier, primary_key=True)
    address: Named[str] = Column(String(320))
    address_key: Named[str] = Column(String(320), unique=True)
    domain: Named[str] = Column(String(255), index=True)
    name: Named[str] = Column(String(255), default="", server_default="")
    status: Named[str] = Column(String(16))
    attributes: Named[dict[str, Any]] = Column(JSON, default=dict, server_default=text("'{}'"))
    created_at: Named[datetime] = Column(Instant)
    changed_at: Named[datetime] = Column(Instant)
    paused_until: Named[datetime | None] = Column(Instant)
    """Gets no issues before this instant, at their own request."""
    tracking_consent: Named[bool] = Column(Boolean, default=False, server_default=text("false"))
    tracking_since: Named[datetime | None] = Column(Instant)
    """When they agreed to tracking; None if they did not, or before this was recorded."""
    soft_points: Named[float] = Column(Float, default=0.0, server_default=text("0"))
    soft_since: Named[datetime | None] = Column(Instant)
    """When the first of the counted soft bounces happened; earlier ones never count again."""


Subscriber = Table(
    "subscribers", METADATA, SubscriberColumns, Index("ix_subscribers_status_id", "status", "id")
)


class SubscriberTagColumns(TypedColumns):
    """A tag of a subscriber."""

    subscriber_id: Named[int] = Column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Named[str] = Column(String(64), primary_key=True)


SubscriberTag = Table(
    "subscriber_tags",
    METADATA,
    SubscriberTagColumns,
    Index("ix_subscriber_tags_tag_subscriber_id", "tag", "subscriber_id"),
    sqlite_with_rowid=False,
)


class SuppressionColumns(TypedColumns):
    """A reason never to send to an address, even if someone adds it again.

    `address_key` is the case-folded address, or `hmac:…` for an address that was erased.
    """

    address_key: Named[str] = Column(String(320), primary_key=True)
    reason: Named[str] = Column(String(32))
    at: Named[datetime] = Column(Instant)
    note: Named[str] = Column(Text, default="", server_default="")
    report_id: Named[int | None] = Column(Identifier)


Suppression = Table("suppressions", METADATA, SuppressionColumns, sqlite_with_rowid=False)
