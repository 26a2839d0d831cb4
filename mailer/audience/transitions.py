"""The status changes that exist, and what it takes to ask the ledger for one.

These are the rules and the values; `mailer.audience.ledger` applies them to the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from mailer.address import Address
from mailer.database.models import SubscriberStatus

_S = SubscriberStatus

PERSONAL_WAYS: Final = frozenset({"form", "page", "one-click", "mailto"})
"""Acts that only the person can do: on a page or by an email that nobody else has."""
RESTORE: Final = "restore"
"""The operator corrects a suppression or a removal that was a mistake."""
REMOVAL_CAN_BE_UNDONE: Final = timedelta(days=1)
"""How long the operator can take back a removal of their own."""

TRANSITIONS: Final[Mapping[tuple[SubscriberStatus, SubscriberStatus], bool]] = {
    (_S.PENDING, _S.ACTIVE): True,
    (_S.PENDING, _S.UNSUBSCRIBED): False,
    (_S.PENDING, _S.BOUNCED): False,
    (_S.PENDING, _S.COMPLAINED): False,
    (_S.PENDING, _S.ERASED): False,
    (_S.ACTIVE, _S.UNSUBSCRIBED): False,
    (_S.ACTIVE, _S.BOUNCED): False,
    (_S.ACTIVE, _S.COMPLAINED): False,
    (_S.ACTIVE, _S.ERASED): False,
    (_S.UNSUBSCRIBED, _S.PENDING): True,
    (_S.UNSUBSCRIBED, _S.ACTIVE): True,
    (_S.UNSUBSCRIBED, _S.COMPLAINED): False,
    (_S.UNSUBSCRIBED, _S.ERASED): False,
    (_S.BOUNCED, _S.PENDING): True,
    (_S.BOUNCED, _S.ACTIVE): True,
    (_S.BOUNCED, _S.UNSUBSCRIBED): False,
    (_S.BOUNCED, _S.COMPLAINED): False,
    (_S.BOUNCED, _S.ERASED): False,
    (_S.COMPLAINED, _S.PENDING): True,
    (_S.COMPLAINED, _S.ACTIVE): True,
    (_S.COMPLAINED, _S.UNSUBSCRIBED): False,
    (_S.COMPLAINED, _S.ERASED): False,
}
"""Every status change that exists; True if only the person can make it."""
SUPPRESSES: Final = {_S.BOUNCED: "hard bounce", _S.COMPLAINED: "complaint"}
"""Statuses that suppress the address as well, with the reason."""
OUT: Final = frozenset({_S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from, as the ledger keeps it; `way` is a word of `Consent.way`.

    `wording` is what the form said to the person. `report_id` names the stored report that a
    suppression rests on.
    """

    way: str
    ip: str = ""
    form: str = ""
    wording: str = ""
    note: str = ""
    issue_id: int | None = None
    import_id: int | None = None
    report_id: int | None = None


@dataclass(frozen=True, slots=True)
class SubscriberRequest:
    """A subscriber's own request: who, from where, and when."""

    subscriber_id: int
    origin: Origin
    at: datetime


@dataclass(frozen=True, slots=True)
class Move:
    """A status that a subscriber is to get.

    `happened_at` is when the cause happened, for reports that arrive later; None means `at`.
    """

    subscriber_id: int
    to: SubscriberStatus
    origin: Origin
    at: datetime
    happened_at: datetime | None = None


class MoveResult(StrEnum):
    """What `move` did."""

    MOVED = "moved"
    UNCHANGED = "unchanged"
    """They have that status already."""
    REFUSED = "refused"
    """`TRANSITIONS` has no such change, or only the person can make it."""
    OUTDATED = "outdated"
    """It happened before the person's last consent, so it is about a subscription that has ended."""
    UNKNOWN = "unknown"
    """There is no such subscriber."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Somebody who is not in the database yet. `joined_at` is when they signed up, if before now."""

    address: Address
    status: SubscriberStatus
    origin: Origin
    name: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    joined_at: datetime | None = None
