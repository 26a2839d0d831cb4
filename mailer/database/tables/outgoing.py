"""Outgoing webhooks: endpoints, events and deliveries."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
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


class WebhookEndpointColumns(TypedColumns):
    """Another program that is notified of events."""

    id: Named[int] = Column(Identifier, primary_key=True)
    url: Named[str] = Column(Text)
    secret: Named[str] = Column(Text)
    """Signs every request, so it is stored as it is."""
    events: Named[str] = Column(Text)
    """Types or patterns of types, separated by spaces."""
    private: Named[bool] = Column(Boolean, default=False, server_default=text("false"))
    created_at: Named[datetime] = Column(Instant)
    disabled_at: Named[datetime | None] = Column(Instant)


WebhookEndpoint = Table("webhook_endpoints", METADATA, WebhookEndpointColumns)


class WebhookEventColumns(TypedColumns):
    """An event for the endpoints, written in the transaction of the change that it reports."""

    uid: Named[str] = Column(String(32), primary_key=True)
    type: Named[str] = Column(String(32))
    at: Named[datetime] = Column(Instant, index=True)
    subscriber_id: Named[int | None] = Column(Identifier)
    data: Named[dict[str, Any]] = Column(JSON)


WebhookEvent = Table("webhook_events", METADATA, WebhookEventColumns, sqlite_with_rowid=False)


class WebhookDeliveryColumns(TypedColumns):
    """One event to one endpoint."""

    event_uid: Named[str] = Column(String(32), ForeignKey("webhook_events.uid"), primary_key=True)
    endpoint_id: Named[int] = Column(
        Identifier, ForeignKey("webhook_endpoints.id"), primary_key=True, index=True
    )
    state: Named[str] = Column(String(16))
    attempts: Named[int] = Column(Integer, default=0, server_default=text("0"))
    due_at: Named[datetime | None] = Column(Instant, index=True)
    """When to try next; for a claimed delivery, when the claim expires."""
    changed_at: Named[datetime | None] = Column(Instant)
    code: Named[int | None] = Column(Integer)
    """The status of the last response."""
    said: Named[str] = Column(Text, default="", server_default=text("''"))
    """Why the last attempt failed."""


WebhookDelivery = Table("webhook_deliveries", METADATA, WebhookDeliveryColumns, sqlite_with_rowid=False)
