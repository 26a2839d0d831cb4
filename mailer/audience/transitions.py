"""The allowed status changes, and the values that describe one.

`mailer.audience.ledger` applies them to the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from mailer.address import Address
from mailer.database.tables import SubscriberStatus

_S = SubscriberStatus

PERSONAL_WAYS: Final = frozenset({"form", "page", "one-click", "mailto"})
"""Ways that only the person has: their own page, form or link."""
RESTORE: Final = "restore"
"""The way of the operator's corrections."""
REMOVAL_CAN_BE_UNDONE: Final = timedelta(days=1)
"""How long the operator can undo a removal."""

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
"""Every allowed status change; True if only the person can make it."""
SUPPRESSES: Final = {_S.BOUNCED: "hard bounce", _S.COMPLAINED: "complaint"}
"""The statuses that also suppress the address, and the reason to record."""
OUT: Final = frozenset({_S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED})


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a change, as the ledger records it; `way` is one of the words of `Consent.way`.

    `wording` is the text of the form. `report_id` is the stored report that justifies a suppression.
    """

    way: str
    ip: str = ""
    form: str = ""
    wording: str = ""
    note: str = ""
    issue_id: int | None = None
    import_id: int | None = None
    report_id: int | None = None


class SubscriberRequest(Struct, frozen=True):
    """A subscriber's own request: who, from where, and when."""

    subscriber_id: int
    origin: Origin
    at: datetime


class Move(Struct, frozen=True):
    """A request to change a subscriber's status.

    `happened_at` is the time of the cause, for reports that arrive later; None means `at`.
    """

    subscriber_id: int
    to: SubscriberStatus
    origin: Origin
    at: datetime
    happened_at: datetime | None = None


class MoveResult(StrEnum):
    """The result of a move."""

    MOVED = "moved"
    UNCHANGED = "unchanged"
    """The subscriber has that status already."""
    REFUSED = "refused"
    """The change is not in `TRANSITIONS`, or only the person can make it."""
    OUTDATED = "outdated"
    """The cause is older than the person's last consent, so it concerns an earlier subscription."""
    UNKNOWN = "unknown"
    """There is no such subscriber."""


class Enrolment(Struct, frozen=True):
    """A new subscriber. `joined_at` is when they signed up, if that was earlier."""

    address: Address
    status: SubscriberStatus
    origin: Origin
    name: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    joined_at: datetime | None = None
