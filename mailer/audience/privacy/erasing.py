"""Permanently erase a person's data without unbalancing the books of issues (GDPR 17)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Result, delete, func, or_, select, update
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience import ledger, suppression
from mailer.database.models import (
    Delivery,
    Event,
    StoredReport,
    Subscriber,
    SubscriberTag,
    WaitingLetter,
)


@dataclass(frozen=True, slots=True)
class Erased:
    """Counts of the erased records. `known` says whether the address was a subscriber."""

    known: bool
    ledger_lines: int
    events: int
    replies: int
    """Deliveries whose reply text was blanked; the deliveries themselves stay in the books."""
    reports: int


def erase(session: Session, address: Address, *, secret: bytes, at: datetime, way: str = "command") -> Erased:
    """Erase everything personal about an address, whether or not it was ever a subscriber.

    These remain: a keyed hash that keeps imports from adding the address again, one ledger line with the
    time, and the deliveries with their states and codes. The blanked row keeps its id, because SQLite
    would reuse the highest id for the next subscriber, who would inherit old deliveries and links.
    `secret` is the oldest of `Database.secrets()`; `way` is the route of the request. Erasing twice changes
    nothing.
    """
    hashed = suppression.erased_key(address.key, secret)
    known = session.scalar(select(Subscriber).where(Subscriber.address_key == address.key).with_for_update())
    ledger_lines = ledger.forget(session, known, address.key, hashed, way=way, at=at)
    about = [func.lower(StoredReport.recipient) == address.key]
    if known is not None:
        about.append(StoredReport.subscriber_id == known.id)
    reports = _number(session.execute(delete(StoredReport).where(or_(*about))))
    if known is None:
        return Erased(known=False, ledger_lines=0, events=0, replies=0, reports=reports)
    done = Erased(
        known=True,
        ledger_lines=ledger_lines,
        events=_number(session.execute(delete(Event).where(Event.subscriber_id == known.id))),
        replies=_number(
            session.execute(
                update(Delivery)
                .where(Delivery.subscriber_id == known.id, Delivery.reply.is_not(None))
                .values(reply=None)
            )
        ),
        reports=reports,
    )
    session.execute(delete(SubscriberTag).where(SubscriberTag.subscriber_id == known.id))
    session.execute(delete(WaitingLetter).where(WaitingLetter.subscriber_id == known.id))
    _empty(known, hashed, at)
    session.flush()
    return done


def _empty(known: Subscriber, hashed: str, at: datetime) -> None:
    known.address, known.address_key, known.domain, known.name = "", hashed, "", ""
    known.attributes = {}
    known.created_at = known.changed_at = at
    known.paused_until, known.tracking_consent, known.tracking_since = None, False, None
    known.soft_points, known.soft_since = 0.0, None


def _number(result: Result[Any]) -> int:
    return cast(CursorResult[Any], result).rowcount
