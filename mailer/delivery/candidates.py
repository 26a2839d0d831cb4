"""Searching the queue for deliveries to claim: retries that are due, then queued deliveries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from msgspec import json
from sqlalchemy import ColumnElement, Integer, Select, and_, bindparam, exists, func, or_, select, text
from sqlalchemy.orm import Session

from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.models import WAITS, CanaryMember, Delivery, DeliveryState, Subscriber
from mailer.database.session import Database
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
            Delivery.subscriber_id,
            Delivery.state,
            Delivery.attempts,
            Delivery.first_at,
            Subscriber.address,
            Subscriber.domain,
            Subscriber.name,
            Subscriber.attributes,
            func.coalesce(mailable(bindparam("at")), False).label("allowed"),
        )
        .outerjoin(Subscriber, joined)
        .where(
            Delivery.issue_id == bindparam("issue_id"),
            or_(
                Subscriber.domain.is_(None),
                Subscriber.domain.not_in(bindparam("except_domains", expanding=True)),
            ),
        )
        .limit(bindparam("count", type_=Integer))
        .with_for_update(of=Delivery, skip_locked=True)
    )


# Built once, since these statements run for every window.
_SAME: Final = Subscriber.id == Delivery.subscriber_id
_DUE: Final = (
    _candidates(_SAME)
    .where(
        text(WAITS),
        Delivery.state.in_(bindparam("states", expanding=True)),
        Delivery.due_at <= bindparam("at"),
    )
    # The order of the index, so that SQLite uses it instead of searching the whole issue. Its last column
    # is the subscriber: without that PostgreSQL would take rows due at the same instant in any order.
    .order_by(Delivery.state, Delivery.due_at, Delivery.subscriber_id)
)
# The bound on both sides: PostgreSQL merges the two tables, and would read all subscribers up to there.
_QUEUED: Final = (
    _candidates(and_(_SAME, Subscriber.id > bindparam("after")))
    .where(Delivery.state == DeliveryState.QUEUED.value, Delivery.subscriber_id > bindparam("after"))
    .order_by(Delivery.subscriber_id)
)
_MEMBERS: Final = _QUEUED.where(
    exists().where(
        CanaryMember.issue_id == Delivery.issue_id, CanaryMember.subscriber_id == Delivery.subscriber_id
    )
)
# The second column is not a condition: PostgreSQL would take the index of active subscribers, and read all
# of them, if it had not analysed the table yet.
_MAILABLE: Final = select(Subscriber.id, mailable(bindparam("at"))).where(among(Subscriber.id, "ids"))


def find_candidates(
    session: Session,
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
    connection = session.connection()
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


def still_mailable(session: Session, subscriber_ids: Sequence[int], *, at: datetime) -> set[int]:
    """Return which of these subscribers may be mailed at that instant."""
    found = session.connection().execute(_MAILABLE, {"ids": subscriber_ids, "at": at})
    return {subscriber_id for subscriber_id, allowed in found.all() if allowed}


def mailable_now(database: Database, subscriber_ids: Sequence[int], *, at: datetime) -> set[int]:
    """Return which of these subscribers may be mailed, as of the newest commit."""
    if database.path is None:
        with database.reading() as session:
            return still_mailable(session, subscriber_ids, at=at)
    stored = {"ids": json.encode(subscriber_ids).decode(), "at": to_microseconds(at)}
    return {subscriber_id for subscriber_id, allowed in database.look(_MAILABLE, stored) if allowed}
