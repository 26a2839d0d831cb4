"""Subscribers, and who gets no mail."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, Float, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base

NO_SOFT_BOUNCES: Final = {"soft_points": 0.0, "soft_since": None}
"""The values of a subscriber whose soft bounces are forgotten."""
SOFT_BOUNCE: Final = "soft_bounce"
"""The kind of event that a soft bounce leaves."""


class Subscriber(Base):
    """A person on the list. `address` is kept as written; `address_key` is case-folded and unique."""

    __tablename__ = "subscribers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    address: Mapped[str] = mapped_column(String(320))
    address_key: Mapped[str] = mapped_column(String(320), unique=True)
    domain: Mapped[str] = mapped_column(String(255), index=True)
    name: Mapped[str] = mapped_column(String(255), default="", server_default="")
    status: Mapped[str] = mapped_column(String(16))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default=text("'{}'"))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    paused_until: Mapped[datetime | None]
    """Gets no issues before this instant, at their own request."""
    tracking_consent: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    tracking_since: Mapped[datetime | None]
    """When they agreed to tracking; None if they did not, or before this was recorded."""
    soft_points: Mapped[float] = mapped_column(Float, default=0.0, server_default=text("0"))
    soft_since: Mapped[datetime | None]
    """When the first of the counted soft bounces happened; earlier ones never count again."""

    __table_args__ = (Index("ix_subscribers_status_id", "status", "id"),)


class SubscriberTag(Base):
    """A tag of a subscriber."""

    __tablename__ = "subscriber_tags"
    __table_args__ = (
        Index("ix_subscriber_tags_tag_subscriber_id", "tag", "subscriber_id"),
        {"sqlite_with_rowid": False},
    )

    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class Suppression(Base):
    """A reason never to send to an address, even if someone adds it again.

    `address_key` is the case-folded address, or `hmac:…` for an address that was erased.
    """

    __tablename__ = "suppressions"
    __table_args__ = ({"sqlite_with_rowid": False},)

    address_key: Mapped[str] = mapped_column(String(320), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime]
    note: Mapped[str] = mapped_column(Text, default="", server_default="")
    report_id: Mapped[int | None] = mapped_column(Identifier)
