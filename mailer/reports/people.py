"""The people behind a number: those who opened or clicked and still agree to tracking, and who left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailer.database.models import Consent, Event, Subscriber, SubscriberStatus

_AT_A_TIME: Final = 1_000


class Responder(Struct, frozen=True):
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
    among: ColumnElement[bool] | None = None,
    after: int = 0,
) -> Iterator[Responder]:
    """Yield who opened an issue or clicked in it, by subscriber id from above `after`.

    A million take little memory. Machines are left out, and so is everyone who does not agree to tracking
    now. `link` limits clicks to one link, and `among` the people to those that a condition selects.
    """
    chosen = (
        select(Subscriber.id, Subscriber.address, func.min(Event.at), func.count())
        .join(Event, Event.subscriber_id == Subscriber.id)
        .where(
            Event.issue_id == issue_id,
            Event.kind == kind,
            Event.details["machine"].as_string().is_(None),
            Subscriber.tracking_consent.is_(True),
            Event.subscriber_id > after,
        )
        .group_by(Subscriber.id, Subscriber.address)
        .order_by(Subscriber.id)
    )
    if link is not None:
        chosen = chosen.where(Event.details["link"].as_integer() == link)
    if among is not None:
        chosen = chosen.where(among)
    for row in session.execute(chosen.execution_options(yield_per=_AT_A_TIME)):
        yield Responder(*row)


class Leaver(Struct, frozen=True):
    """Someone who left the list."""

    line: int
    """The number of the line in the ledger."""
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
    after: int = 0,
) -> Iterator[Leaver]:
    """Yield who left because of an issue, in the order of the ledger, from the line above `after`.

    `status` is what they became; `way` limits them to those who left in this way.
    """
    chosen = (
        select(Consent.id, Subscriber.id, Subscriber.address, Consent.at, Consent.way, Consent.note)
        .join(Consent, Consent.subscriber_id == Subscriber.id)
        .where(
            Consent.issue_id == issue_id,
            Consent.id > after,
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
