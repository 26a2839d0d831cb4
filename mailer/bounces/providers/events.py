"""One vocabulary for the events of all providers, and the small readers that their files share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from enum import StrEnum
from typing import Any

from mailer.printable import whole_number
from mailer.replies import BounceClass


class EventKind(StrEnum):
    """The kind of event, according to the provider."""

    QUEUED = "queued"
    SENT = "sent"
    REJECTED = "rejected"
    """The provider did not try to deliver: it suppresses the address or refused our message."""
    FAILED = "failed"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    AUTORESPONDED = "autoresponded"
    OPENED = "opened"
    CLICKED = "clicked"
    COMPLAINED = "complained"
    FEEDBACK = "feedback"
    """Feedback that is not a complaint, such as `not-spam` (RFC 5965)."""
    UNSUBSCRIBED = "unsubscribed"
    SUBSCRIBED = "subscribed"
    INBOUND = "inbound"
    CONFIRM = "confirm"
    """The provider sends nothing until we have fetched a URL (SNS)."""
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """The reason why the provider did not try to deliver."""

    NONE = ""
    INVALID = "invalid"
    BOUNCED = "bounced"
    UNSUBSCRIBED = "unsubscribed"
    SPAM = "spam"
    OTHER = "other"
    """The provider refused our message or account, or does not say: no suppression of the address."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """One event about one recipient, with the payload it was read from."""

    provider: str
    kind: EventKind
    recipient: str = ""
    message_id: str = ""
    """Our Message-ID if the provider passes it on, else the provider's own; without brackets."""
    event_id: str = ""
    at: datetime | None = None
    reply: str = ""
    """The receiving system's reply, as quoted by the provider."""
    status: str = ""
    """RFC 3463 status, if the provider has a field for it."""
    code: int | None = None
    reason: Reason = Reason.NONE
    cause: BounceClass | None = None
    """The class that the provider's own reason stands for; used only if the reply says nothing."""
    hard: bool | None = None
    """The provider's opinion; used only if the reply says nothing."""
    url: str = ""
    """The URL to fetch, for `CONFIRM`."""
    payload: object = None


Native = Mapping[str, Any]
"""One event as the provider sends it."""


def table(value: object) -> Native:
    """Return a JSON object, or an empty one if `value` is something else."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """Return a string or number as text; anything else is empty."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def address(value: object) -> str:
    """Return the bare address of `Name <a@b>`."""
    return parseaddr(text(value)[:1000])[1]


def message_id(value: object) -> str:
    """Return a Message-ID without its brackets."""
    return text(value).strip(" <>")


def code(value: object) -> int | None:
    """Return a three-digit reply code."""
    digits = text(value)
    return whole_number(digits) if len(digits) == 3 else None


def from_epoch(value: object) -> datetime | None:
    """Return the time of a Unix timestamp in seconds."""
    try:
        return datetime.fromtimestamp(float(text(value)), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def from_iso(value: object) -> datetime | None:
    """Return the time of an ISO 8601 string; UTC if it names no zone."""
    try:
        found = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
