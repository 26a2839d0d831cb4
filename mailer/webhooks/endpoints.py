"""The endpoints that get events: their URLs, the events they want, and their signing secrets."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from sqlalchemy import Connection, delete, insert, select

from mailer.database.tables import SubscriberStatus, TableRow, WebhookDelivery, WebhookEndpoint
from mailer.errors import SourceError

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the same in every secret
TYPES: Final = (
    *(f"subscriber.{status.value}" for status in SubscriberStatus),
    "issue.queued",
    "issue.paused",
    "issue.resumed",
    "issue.cancelled",
    "issue.finished",
    "delivery.bounced",
    "complaint",
)
"""The types of events."""
PATTERNS: Final = ("*", "subscriber.*", "issue.*", *TYPES)
_MAX_URL: Final = 2000


class Endpoint(Struct, frozen=True):
    """An endpoint with its secret."""

    id: int
    url: str
    secret: str
    patterns: tuple[str, ...]
    private: bool
    """Whether the address may be one of a private network."""
    created_at: datetime
    disabled_at: datetime | None

    def wants(self, type_: str) -> bool:
        """Return whether it gets events of this type."""
        return any(
            pattern in ("*", type_) or (pattern.endswith(".*") and type_.startswith(pattern[:-1]))
            for pattern in self.patterns
        )


def add(
    connection: Connection, url: str, patterns: Sequence[str], *, private: bool = False, at: datetime
) -> Endpoint:
    """Store an endpoint with a new secret. Raises `SourceError` for a URL or a type that cannot be used."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    schemes = ("https", "http") if private else ("https",)
    if not usable or len(url) > _MAX_URL or not url.isprintable() or parts.scheme not in schemes:
        raise SourceError(
            f"'{url[:80]}' cannot be an endpoint",
            remedy="write an address that begins with https:// (http:// only with --allow-private)",
        )
    if unknown := [pattern for pattern in patterns if pattern not in PATTERNS]:
        raise SourceError(f"there are no events '{unknown[0]}'", remedy=f"choose from {', '.join(PATTERNS)}")
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    stored = connection.execute(
        insert(WebhookEndpoint)
        .values(url=url, secret=secret, events=" ".join(patterns or ["*"]), private=private, created_at=at)
        .returning(WebhookEndpoint)
    )
    return endpoint_of(stored.one())


def endpoints(connection: Connection) -> list[Endpoint]:
    """Return all endpoints, oldest first."""
    rows = connection.execute(select(WebhookEndpoint).order_by(WebhookEndpoint.c.id))
    return [endpoint_of(row) for row in rows]


def active_endpoints(connection: Connection) -> list[Endpoint]:
    """Return the endpoints that get events."""
    enabled = select(WebhookEndpoint).where(WebhookEndpoint.c.disabled_at.is_(None))
    return [endpoint_of(row) for row in connection.execute(enabled.order_by(WebhookEndpoint.c.id))]


def remove(connection: Connection, endpoint_id: int) -> None:
    """Delete an endpoint and its deliveries; raise `SourceError` if there is none."""
    this = WebhookEndpoint.c.id == endpoint_id
    if connection.scalar(select(WebhookEndpoint.c.id).where(this)) is None:
        raise SourceError(
            f"there is no webhook {endpoint_id}", remedy="list the webhooks with: mailer webhooks list"
        )
    connection.execute(delete(WebhookDelivery).where(WebhookDelivery.c.endpoint_id == endpoint_id))
    connection.execute(delete(WebhookEndpoint).where(this))


def endpoint_of(stored: TableRow) -> Endpoint:
    """Return a stored endpoint."""
    return Endpoint(
        stored.id,
        stored.url,
        stored.secret,
        tuple(stored.events.split()),
        stored.private,
        stored.created_at,
        stored.disabled_at,
    )
