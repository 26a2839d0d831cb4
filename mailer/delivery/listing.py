"""The deliveries of an issue, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, select

from mailer.database.tables import Delivery, DeliveryState, Subscriber

_AT_ONCE: Final = 1_000


class Listed(Struct, frozen=True):
    """One delivery; without attempts or an answer if it was never tried."""

    state: DeliveryState
    subscriber_id: int
    address: str | None
    """None after the subscriber is erased."""
    attempts: int
    changed_at: datetime | None
    due_at: datetime | None
    code: int | None
    enhanced: str | None
    reply: str | None
    bounce_class: str | None

    @property
    def answer(self) -> str:
        """The last reply, on one line."""
        return " ".join(str(part) for part in (self.code, self.enhanced, self.reply) if part)

    def as_dict(self) -> dict[str, object]:
        """Return the delivery as `mailer status --list --json` prints it."""
        return {
            "subscriber": self.subscriber_id,
            "address": self.address,
            "state": self.state.value,
            "attempts": self.attempts,
            "changed_at": self.changed_at.isoformat() if self.changed_at else None,
            "next_at": self.due_at.isoformat() if self.due_at else None,
            "answer": self.answer or None,
            "class": self.bounce_class,
        }


def listing(connection: Connection, issue_id: int, state: DeliveryState) -> Iterator[Listed]:
    """Yield the deliveries of an issue in this state, by subscriber id.

    Reads a page at a time: a million take no more memory than a thousand.
    """
    after = 0
    while found := page(connection, issue_id, state, after=after, limit=_AT_ONCE):
        yield from found
        after = found[-1].subscriber_id


def page(
    connection: Connection,
    issue_id: int,
    state: DeliveryState | None = None,
    *,
    after: int,
    limit: int,
    bounce_class: str | None = None,
    among: ColumnElement[bool] | None = None,
) -> list[Listed]:
    """Return deliveries of an issue by subscriber id, from above `after`.

    They are limited to a state, to a class of bounces, and to the subscribers that a condition selects.
    """
    chosen = (
        select(
            Delivery.c.state,
            Delivery.c.subscriber_id,
            Subscriber.c.address,
            Delivery.c.attempts,
            Delivery.c.changed_at,
            Delivery.c.due_at,
            Delivery.c.code,
            Delivery.c.enhanced,
            Delivery.c.reply,
            Delivery.c.bounce_class,
        )
        .outerjoin(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
        .where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id > after)
        .order_by(Delivery.c.subscriber_id)
        .limit(limit)
    )
    if state is not None:
        chosen = chosen.where(Delivery.c.state == state.value)
    if bounce_class is not None:
        chosen = chosen.where(Delivery.c.bounce_class == bounce_class)
    if among is not None:
        chosen = chosen.where(among)
    return [Listed(DeliveryState(given), *rest) for given, *rest in connection.execute(chosen)]
