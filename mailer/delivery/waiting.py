"""The deliveries of an issue that wait for a retry: how many, why, and until when."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, func, or_, select, text

from mailer.database.tables import WAITS, Delivery, DeliveryState, Subscriber

_SECONDS: Final = 1.0
_WAITING = [DeliveryState.DEFERRED.value, DeliveryState.UNCERTAIN.value]


class Waiting(Struct, frozen=True):
    """Deliveries that wait for the same reason."""

    state: DeliveryState
    number: int
    code: int | None
    enhanced: str | None
    bounce_class: str | None
    example: str
    """One of the replies."""
    next_at: datetime | None
    last_at: datetime | None
    """When the last of them is due."""
    attempts: int
    """The most attempts that any of them has had."""

    @property
    def reason(self) -> str:
        """Why they wait, for people to read."""
        said = " ".join(str(part) for part in (self.code, self.enhanced, self.example) if part)
        return said or "the connection was lost"


class RetryScan:
    """Decides when to search for due retries, so that not every claim does.

    A search costs a round trip, and reads every delivery to a provider on hold. If it finds fewer deliveries
    than wanted, the next one waits a second, or ten times as long as it took; meanwhile queued deliveries
    go first.
    """

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._began = 0.0
        self._not_before = -math.inf

    def begin(self, *, anyway: bool) -> bool:
        """Return whether to search now; `anyway` is for a run that found nothing else to do."""
        self._began = self._ticks()
        return anyway or self._began >= self._not_before

    def end(self, found: int, wanted: int) -> None:
        """Note how many deliveries a search found."""
        now = self._ticks()
        self._not_before = now if found >= wanted else now + max(_SECONDS, 10 * (now - self._began))


def waiting(connection: Connection, issue_id: int) -> list[Waiting]:
    """Return the groups of deliveries that wait for a retry, the largest first."""
    due = Delivery.c.due_at
    groups = (
        select(
            Delivery.c.state,
            func.count().label("number"),
            Delivery.c.code,
            Delivery.c.enhanced,
            Delivery.c.bounce_class,
            func.min(Delivery.c.reply),
            func.min(due, type_=due.type),
            func.max(due, type_=due.type),
            func.max(Delivery.c.attempts),
        )
        .where(Delivery.c.issue_id == issue_id, text(WAITS), Delivery.c.state.in_(_WAITING))
        .group_by(Delivery.c.state, Delivery.c.code, Delivery.c.enhanced, Delivery.c.bounce_class)
        .order_by(func.count().desc(), func.min(Delivery.c.due_at))
    )
    return [
        Waiting(DeliveryState(state), number, code, enhanced, why, said or "", next_at, last_at, attempts)
        for state, number, code, enhanced, why, said, next_at, last_at, attempts in connection.execute(groups)
    ]


def next_due(
    connection: Connection, issue_id: int, *, resend_uncertain: bool, except_domains: Collection[str] = ()
) -> datetime | None:
    """Return when the next retry is due, ignoring `except_domains`; None if none waits."""
    waiting = [DeliveryState.DEFERRED.value]
    if resend_uncertain:
        waiting.append(DeliveryState.UNCERTAIN.value)
    earliest = select(func.min(Delivery.c.due_at, type_=Delivery.c.due_at.type)).where(
        Delivery.c.issue_id == issue_id, text(WAITS), Delivery.c.state.in_(waiting)
    )
    if except_domains:
        elsewhere = Subscriber.c.domain.not_in(except_domains)
        earliest = earliest.outerjoin(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id).where(
            or_(Subscriber.c.domain.is_(None), elsewhere)
        )
    due: datetime | None = connection.scalar(earliest)
    return due
