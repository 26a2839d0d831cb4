"""The endpoints that get events: their URLs, the events they want, and their signing secrets."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.database.models import SubscriberStatus, WebhookDelivery, WebhookEndpoint
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
    session: Session, url: str, patterns: Sequence[str], *, private: bool = False, at: datetime
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
    stored = WebhookEndpoint(
        url=url, secret=secret, events=" ".join(patterns or ["*"]), private=private, created_at=at
    )
    session.add(stored)
    session.flush()
    return endpoint_of(stored)


def endpoints(session: Session) -> list[Endpoint]:
    """Return all endpoints, oldest first."""
    return [endpoint_of(row) for row in session.scalars(select(WebhookEndpoint).order_by(WebhookEndpoint.id))]


def active_endpoints(session: Session) -> list[Endpoint]:
    """Return the endpoints that get events."""
    enabled = select(WebhookEndpoint).where(WebhookEndpoint.disabled_at.is_(None))
    return [endpoint_of(row) for row in session.scalars(enabled.order_by(WebhookEndpoint.id))]


def remove(session: Session, endpoint_id: int) -> None:
    """Delete an endpoint and its deliveries; raise `SourceError` if there is none."""
    stored = session.get(WebhookEndpoint, endpoint_id)
    if stored is None:
        raise SourceError(
            f"there is no webhook {endpoint_id}", remedy="list the webhooks with: mailer webhooks list"
        )
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id))
    session.delete(stored)
    session.flush()


def endpoint_of(stored: WebhookEndpoint) -> Endpoint:
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
