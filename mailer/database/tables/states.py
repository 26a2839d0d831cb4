"""The states that rows of several tables are in."""

from __future__ import annotations

from enum import StrEnum


class SubscriberStatus(StrEnum):
    """The status of a subscriber. Only `active` subscribers get issues."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


class DeliveryState(StrEnum):
    """The state of a delivery; the seven counts always add up to the audience."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"


class IssueState(StrEnum):
    """The state of an issue."""

    SENDING = "sending"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class CanaryState(StrEnum):
    """The state of a canary: the part of the audience that gets an issue first."""

    SEEDING = "seeding"
    """Sending to the operator's own addresses."""
    SENDING = "sending"
    WAITING = "waiting"
    """Waiting for reports."""
    PASSED = "passed"
    STOPPED = "stopped"
    """A limit was exceeded; the operator decides."""
