"""The people behind a number: those who opened or clicked and still agree to tracking, and who left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.database.models import Consent, Event, Subscriber, SubscriberStatus

_AT_A_TIME: Final = 1_000


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
) -> Iterator[Responder]:
    """Yield who opened an issue or clicked in it, by subscriber id; a million take little memory.

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
            Subscriber.tracking_consent.is_(True),
        )
        .group_by(Subscriber.id, Subscriber.address)
        .order_by(Subscriber.id)
    )
    if link is not None:
        chosen = chosen.where(Event.details["link"].as_integer() == link)
    for row in session.execute(chosen.execution_options(yield_per=_AT_A_TIME)):
        yield Responder(*row)


@dataclass(frozen=True, slots=True)
class Leaver:
    """Someone who left the list."""

    subscriber_id: int
    address: str
    at: datetime
    way: str
    note: str
    """Their reason, if they gave one."""


def leavers(
    session: Session,
    issue_id: int,
    status: SubscriberStatus = SubscriberStatus.UNSUBSCRIBED,
    *,
    way: str = "",
) -> Iterator[Leaver]:
    """Yield who left because of an issue, in the order of the ledger.

    `status` is what they became; `way` limits them to those who left in this way.
    """
    chosen = (
        select(Subscriber.id, Subscriber.address, Consent.at, Consent.way, Consent.note)
        .join(Consent, Consent.subscriber_id == Subscriber.id)
        .where(
            Consent.issue_id == issue_id,
            Subscriber.address.is_not(None),
            Consent.before == SubscriberStatus.ACTIVE.value,
            Consent.after == status.value,
        )
        .order_by(Consent.id)
    )
    if way:
        chosen = chosen.where(Consent.way == way)
    for row in session.execute(chosen.execution_options(yield_per=_AT_A_TIME)):
        yield Leaver(*row)
