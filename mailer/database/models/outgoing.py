"""Outgoing webhooks: endpoints, events and deliveries."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


class WebhookEndpoint(Base):
    """Another program that is notified of events."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)
    """Signs every request, so it is stored as it is."""
    events: Mapped[str] = mapped_column(Text)
    """Types or patterns of types, separated by spaces."""
    private: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """An event for the endpoints, written in the transaction of the fact."""

    __tablename__ = "webhook_events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    type: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(index=True)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class WebhookDelivery(Base):
    """One event to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = ({"sqlite_with_rowid": False},)

    event_uid: Mapped[str] = mapped_column(String(32), ForeignKey("webhook_events.uid"), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("webhook_endpoints.id"), primary_key=True, index=True
    )
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    """When to try next; for a claimed delivery, when the claim expires."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    """The status of the last response."""
    said: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why the last attempt failed."""
