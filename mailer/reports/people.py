"""The people behind a number: those who opened or clicked and still agree to tracking, and who left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.database.models import Consent, Event, Subscriber, SubscriberStatus


@dataclass(frozen=True, slots=True)
class Responder:
    """Someone who opened or clicked."""

    subscriber_id: int
    address: str
    first_at: datetime
    times: int


def responders(
    session: Session,
    issue_id: int,
    kind: Literal["open", "click"],
    *,
    link: int | None = None,
    after: int = 0,
    limit: int = 50,
) -> list[Responder]:
    """Return who opened an issue or clicked in it, ordered by subscriber id, from above `after`.

    Machines are left out, and so is everyone who does not agree to tracking now. `link` limits clicks to
    one link.
    """
    chosen = (
        select(Subscriber.id, Subscriber.address, func.min(Event.at), func.count())
        .join(Event, Event.subscriber_id == Subscriber.id)
        .where(
            Event.issue_id == issue_id,
            Event.kind == kind,
            Event.details["machine"].as_string().is_(None),
            Subscriber.id > after,
            Subscriber.tracking_consent.is_(True),
        )
        .group_by(Subscriber.id, Subscriber.address)
        .order_by(Subscriber.id)
        .limit(limit)
    )
    if link is not None:
        chosen = chosen.where(Event.details["link"].as_integer() == link)
    return [Responder(*row) for row in session.execute(chosen)]


@dataclass(frozen=True, slots=True)
class Leaver:
    """Someone who unsubscribed."""

    subscriber_id: int
    address: str
    at: datetime
    way: str
    note: str
    """Their reason, if they gave one."""


def leavers(session: Session, issue_id: int, *, limit: int = 50) -> list[Leaver]:
    """Return who unsubscribed from an issue, in the order of the ledger."""
    chosen = (
        select(Subscriber.id, Subscriber.address, Consent.at, Consent.way, Consent.note)
        .join(Consent, Consent.subscriber_id == Subscriber.id)
        .where(
            Consent.issue_id == issue_id,
            Consent.before == SubscriberStatus.ACTIVE.value,
            Consent.after == SubscriberStatus.UNSUBSCRIBED.value,
        )
        .order_by(Consent.id)
        .limit(limit)
    )
    return [Leaver(*row) for row in session.execute(chosen)]
