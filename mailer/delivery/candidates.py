"""Searching the queue for deliveries to claim: retries that are due, then queued deliveries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    text,
)

from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.engine import Database
from mailer.database.tables import WAITS, CanaryMember, Delivery, DeliveryState, Subscriber
from mailer.delivery.issues import mailable
from mailer.delivery.waiting import RetryScan


class Claimable(NamedTuple):
    """A delivery that may be claimed. For an erased subscriber, only the id is known."""

    subscriber_id: int
    state: str
    attempts: int
    first_at: datetime | None
    address: str
    domain: str
    name: str
    attributes: dict[str, object]
    allowed: bool
    """Whether its subscriber may still be mailed."""


def _candidates(joined: ColumnElement[bool]) -> Select[Any]:
    """Return the statement that finds deliveries and their subscribers, joined by a condition."""
    return (
        select(
            Delivery.c.subscriber_id,
            Delivery.c.state,
            Delivery.c.attempts,
            Delivery.c.first_at,
            Subscriber.c.address,
            Subscriber.c.domain,
            Subscriber.c.name,
            Subscriber.c.attributes,
            func.coalesce(mailable(bindparam("at")), False).label("allowed"),
        )
        .outerjoin(Subscriber, joined)
        .where(
            Delivery.c.issue_id == bindparam("issue_id"),
            or_(
                Subscriber.c.domain.is_(None),
                Subscriber.c.domain.not_in(bindparam("except_domains", expanding=True)),
            ),
        )
        .limit(bindparam("count", type_=Integer))
        .with_for_update(of=Delivery, skip_locked=True)
    )


# Built once, since these statements run for every window.
_SAME: Final = Subscriber.c.id == Delivery.c.subscriber_id
_DUE: Final = (
    _candidates(_SAME)
    .where(
        text(WAITS),
        Delivery.c.state.in_(bindparam("states", expanding=True)),
        Delivery.c.due_at <= bindparam("at"),
    )
    # The order of the index, so that SQLite uses it instead of searching the whole issue. Its last column
    # is the subscriber: without that PostgreSQL would take rows due at the same instant in any order.
    .order_by(Delivery.c.state, Delivery.c.due_at, Delivery.c.subscriber_id)
)
# The bound on both sides: PostgreSQL merges the two tables, and would read all subscribers up to there.
_QUEUED: Final = (
    _candidates(and_(_SAME, Subscriber.c.id > bindparam("after")))
    .where(Delivery.c.state == DeliveryState.QUEUED.value, Delivery.c.subscriber_id > bindparam("after"))
    .order_by(Delivery.c.subscriber_id)
)
_MEMBERS: Final = _QUEUED.where(
    exists().where(
        CanaryMember.c.issue_id == Delivery.c.issue_id,
        CanaryMember.c.subscriber_id == Delivery.c.subscriber_id,
    )
)
# The second column is not a condition: PostgreSQL would take the index of active subscribers, and read all
# of them, if it had not analysed the table yet.
_MAILABLE: Final = select(Subscriber.c.id, mailable(bindparam("at"))).where(among(Subscriber.c.id, "ids"))


def find_candidates(
    connection: Connection,
    issue_id: int,
    *,
    limit: int,
    after: int,
    at: datetime,
    resend_uncertain: bool,
    except_domains: Collection[str],
    members_only: bool,
    retry_scan: RetryScan | None,
) -> tuple[list[Claimable], int]:
    """Lock and return up to `limit` deliveries, and the id after which the next search continues.

    The parameters are those of `queue.claim`.
    """
    waiting = [DeliveryState.DEFERRED.value]
    if resend_uncertain:
        waiting.append(DeliveryState.UNCERTAIN.value)
    wanted = {"issue_id": issue_id, "at": at, "except_domains": sorted(except_domains)}
    rows: list[Claimable] = []
    if retry_scan is None or retry_scan.begin(anyway=not after):
        due = connection.execute(_DUE, {**wanted, "states": waiting, "count": limit})
        rows += [Claimable(*row) for row in due.all()]
        if retry_scan is not None:
            retry_scan.end(len(rows), limit)
    if len(rows) < limit:
        next_ones = {**wanted, "after": after, "count": limit - len(rows)}
        queued = connection.execute(_MEMBERS if members_only else _QUEUED, next_ones)
        rows += [Claimable(*row) for row in queued.all()]
        if rows and rows[-1].state == DeliveryState.QUEUED:
            after = rows[-1].subscriber_id
    return rows, after


def still_mailable(connection: Connection, subscriber_ids: Sequence[int], *, at: datetime) -> set[int]:
    """Return which of these subscribers may be mailed at that instant."""
    found = connection.execute(_MAILABLE, {"ids": subscriber_ids, "at": at})
    return {subscriber_id for subscriber_id, allowed in found.all() if allowed}


def mailable_now(database: Database, subscriber_ids: Sequence[int], *, at: datetime) -> set[int]:
    """Return which of these subscribers may be mailed, as of the newest commit."""
    if database.path is None:
        with database.reading() as connection:
            return still_mailable(connection, subscriber_ids, at=at)
    stored = {"ids": json.encode(subscriber_ids).decode(), "at": to_microseconds(at)}
    return {subscriber_id for subscriber_id, allowed in database.look(_MAILABLE, stored) if allowed}
