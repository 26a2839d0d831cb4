"""The people behind a number: those who opened or clicked and still agree to tracking, and who left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, func, select

from mailer.database.tables import Consent, Event, Subscriber, SubscriberStatus

_AT_A_TIME: Final = 1_000


class Responder(Struct, frozen=True):
    """Someone who opened or clicked."""

    subscriber_id: int
    address: str
    first_at: datetime
    times: int


def responders(
    connection: Connection,
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
        select(Subscriber.c.id, Subscriber.c.address, func.min(Event.c.at), func.count())
        .join(Event, Event.c.subscriber_id == Subscriber.c.id)
        .where(
            Event.c.issue_id == issue_id,
            Event.c.kind == kind,
            Event.c.details["machine"].as_string().is_(None),
            Subscriber.c.tracking_consent.is_(True),
            Event.c.subscriber_id > after,
        )
        .group_by(Subscriber.c.id, Subscriber.c.address)
        .order_by(Subscriber.c.id)
    )
    if link is not None:
        chosen = chosen.where(Event.c.details["link"].as_integer() == link)
    if among is not None:
        chosen = chosen.where(among)
    for row in connection.execute(chosen.execution_options(yield_per=_AT_A_TIME)):
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
    connection: Connection,
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
        select(
            Consent.c.id, Subscriber.c.id, Subscriber.c.address, Consent.c.at, Consent.c.way, Consent.c.note
        )
        .join(Consent, Consent.c.subscriber_id == Subscriber.c.id)
        .where(
            Consent.c.issue_id == issue_id,
            Consent.c.id > after,
            Subscriber.c.address.is_not(None),
            Consent.c.before == SubscriberStatus.ACTIVE.value,
            Consent.c.after == status.value,
        )
        .order_by(Consent.c.id)
    )
    if way:
        chosen = chosen.where(Consent.c.way == way)
    for row in connection.execute(chosen.execution_options(yield_per=_AT_A_TIME)):
        yield Leaver(*row)
