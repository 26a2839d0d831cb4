"""Permanently erase a person's data without unbalancing the books of issues (GDPR 17)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, or_, select, update

from mailer.address import Address
from mailer.audience import ledger, suppression
from mailer.database.tables import (
    NO_SOFT_BOUNCES,
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


def erase(
    connection: Connection, address: Address, *, secret: bytes, at: datetime, way: str = "command"
) -> Erased:
    """Erase everything personal about an address, whether or not it was ever a subscriber.

    These remain: a keyed hash that keeps imports from adding the address again, one ledger line with the
    time, and the deliveries with their states and codes. The blanked row keeps its id, because SQLite
    would reuse the highest id for the next subscriber, who would inherit old deliveries and links.
    `secret` is the oldest of `Database.secrets()`; `way` is the route of the request. Erasing twice changes
    nothing.
    """
    hashed = suppression.erased_key(address.key, secret)
    known = connection.execute(
        select(Subscriber.c.id, Subscriber.c.status)
        .where(Subscriber.c.address_key == address.key)
        .with_for_update()
    ).one_or_none()
    ledger_lines = ledger.forget(connection, known, address.key, hashed, way=way, at=at)
    about = [func.lower(StoredReport.c.recipient) == address.key]
    if known is not None:
        about.append(StoredReport.c.subscriber_id == known.id)
    reports = connection.execute(delete(StoredReport).where(or_(*about))).rowcount
    if known is None:
        return Erased(known=False, ledger_lines=0, events=0, replies=0, reports=reports)
    events = connection.execute(delete(Event).where(Event.c.subscriber_id == known.id)).rowcount
    replies = connection.execute(
        update(Delivery)
        .where(Delivery.c.subscriber_id == known.id, Delivery.c.reply.is_not(None))
        .values(reply=None)
    ).rowcount
    connection.execute(delete(SubscriberTag).where(SubscriberTag.c.subscriber_id == known.id))
    connection.execute(delete(WaitingLetter).where(WaitingLetter.c.subscriber_id == known.id))
    connection.execute(
        update(Subscriber)
        .where(Subscriber.c.id == known.id)
        .values(
            address="",
            address_key=hashed,
            domain="",
            name="",
            attributes={},
            created_at=at,
            changed_at=at,
            paused_until=None,
            tracking_consent=False,
            tracking_since=None,
            **NO_SOFT_BOUNCES,
        )
    )
    return Erased(True, ledger_lines, events, replies, reports)
