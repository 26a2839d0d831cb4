"""Apply verdicts to deliveries and subscribers, in the same way for reports and for SMTP replies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select, update

from mailer.audience.ledger import move
from mailer.audience.transitions import Move, MoveResult, Origin
from mailer.bounces.policy import SoftBounce, SoftLimits, add_up, weight
from mailer.database import running_totals
from mailer.database.among import among
from mailer.database.tables import (
    NO_SOFT_BOUNCES,
    SOFT_BOUNCE,
    Delivery,
    DeliveryState,
    Event,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
)
from mailer.replies import BounceClass, Verdict
from mailer.webhooks.queue import Occurrence, put

# No rule looks back further: a count without a pause of `quiet_days` reaches its limit long before.
_LOOK_BACK: Final = timedelta(days=400)
# Databases limit the number of parameters in a statement.
_AT_ONCE: Final = 5_000
_LIMITS: Final = SoftLimits()


def apply_verdicts(
    connection: Connection,
    rows: Sequence[tuple[int, int, Verdict]],
    *,
    at: datetime,
    limits: SoftLimits = _LIMITS,
    report_id: int | None = None,
    happened_at: datetime | None = None,
) -> frozenset[int]:
    """Suppress subscribers or count soft bounces after failed deliveries; return the suppressed ones.

    `rows` holds the issue, subscriber and verdict of each delivery that has finally failed. Runs in the
    caller's transaction with a fixed number of statements. The deliveries themselves are not changed.
    `happened_at` is when the deliveries failed, if that was before `at`; see `ledger.Move`.
    """
    notes = {subscriber_id: _note(verdict) for _, subscriber_id, verdict in rows if verdict.hard}
    issues = {subscriber_id: issue_id for issue_id, subscriber_id, _ in rows if issue_id}
    soft = [
        (issue_id, subscriber_id, verdict.bounce_class)
        for issue_id, subscriber_id, verdict in rows
        if not verdict.hard and verdict.bounce_class is not None and weight(verdict)
    ]
    if soft:
        notes = {**_count(connection, soft, at, limits), **notes}
    moves = [
        Move(
            subscriber_id,
            SubscriberStatus.BOUNCED,
            Origin("bounce", note=note, issue_id=issues.get(subscriber_id), report_id=report_id),
            at,
            happened_at,
        )
        for subscriber_id, note in notes.items()
    ]
    results = zip(moves, move(connection, moves), strict=True)
    return frozenset(one.subscriber_id for one, result in results if result is MoveResult.MOVED)


def fail_delivery(
    connection: Connection, issue_id: int, subscriber_id: int, verdict: Verdict, *, at: datetime
) -> bool:
    """Mark a delivery as failed if it was sent or may have been; return whether it was changed."""
    this = (Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == subscriber_id)
    left = Delivery.c.state.in_([DeliveryState.SENT.value, DeliveryState.UNCERTAIN.value])
    before = connection.scalar(select(Delivery.c.state).where(*this, left).with_for_update())
    if before is None:
        return False
    connection.execute(
        update(Delivery)
        .where(*this)
        .values(
            state=DeliveryState.FAILED.value,
            code=verdict.code,
            enhanced=verdict.enhanced[:16] or None,
            reply=verdict.text,
            bounce_class=verdict.bounce_class.value if verdict.bounce_class else None,
            due_at=None,
            changed_at=at,
        )
    )
    running_totals.move(connection, issue_id, 1, DeliveryState(before), DeliveryState.FAILED)
    slug = connection.scalar(select(StoredIssue.c.slug).where(StoredIssue.c.id == issue_id))
    data = {"issue": slug, "class": verdict.bounce_class.value if verdict.bounce_class else None}
    put(connection, [Occurrence("delivery.bounced", data, subscriber_id)], at=at)
    return True


def clear_soft_count(connection: Connection, subscriber_id: int) -> bool:
    """Reset a subscriber's soft bounces after a delivery; return whether there were any."""
    cleared = connection.execute(
        update(Subscriber)
        .where(Subscriber.c.id == subscriber_id, Subscriber.c.soft_points > 0)
        .values(**NO_SOFT_BOUNCES)
        .returning(Subscriber.c.id)
    )
    return cleared.first() is not None


def clear_soft_counts(connection: Connection, address_keys: Collection[str]) -> None:
    """Reset the soft bounces of addresses to which a message was delivered."""
    keys = sorted(address_keys)
    for start in range(0, len(keys), _AT_ONCE):
        connection.execute(
            update(Subscriber)
            .where(Subscriber.c.address_key.in_(keys[start : start + _AT_ONCE]), Subscriber.c.soft_points > 0)
            .values(**NO_SOFT_BOUNCES)
        )


def forget_soft_bounces(connection: Connection, issue_id: int, subscriber_ids: Sequence[int]) -> None:
    """Forget the soft bounces of subscribers who got one from this issue."""
    counted = select(Event.c.subscriber_id).where(Event.c.issue_id == issue_id, Event.c.kind == SOFT_BOUNCE)
    connection.execute(
        update(Subscriber)
        .where(among(Subscriber.c.id, "ids"), Subscriber.c.soft_points > 0, Subscriber.c.id.in_(counted))
        .values(**NO_SOFT_BOUNCES),
        {"ids": subscriber_ids},
    )


def _count(
    connection: Connection, soft: Iterable[tuple[int, int, BounceClass]], at: datetime, limits: SoftLimits
) -> Mapping[int, str]:
    """Record soft bounces; return the subscribers who reached a limit, with the reason."""
    by_subscriber: dict[int, list[tuple[int, BounceClass]]] = defaultdict(list)
    for issue_id, subscriber_id, bounce_class in soft:
        by_subscriber[subscriber_id].append((issue_id, bounce_class))
    ids = list(by_subscriber)
    since = {
        row.id: row.soft_since
        for row in connection.execute(
            select(Subscriber.c.id, Subscriber.c.soft_since).where(Subscriber.c.id.in_(ids)).with_for_update()
        )
    }
    history: dict[int, list[SoftBounce]] = defaultdict(list)
    for event in connection.execute(
        select(Event.c.subscriber_id, Event.c.at, Event.c.details)
        .where(Event.c.subscriber_id.in_(ids), Event.c.kind == SOFT_BOUNCE, Event.c.at >= at - _LOOK_BACK)
        .order_by(Event.c.at)
    ):
        begun = since.get(event.subscriber_id)
        if begun is not None and event.at >= begun:
            history[event.subscriber_id].append(SoftBounce(event.at, BounceClass(event.details["class"])))
    events: list[dict[str, object]] = []
    counts: list[dict[str, object]] = []
    enough: dict[int, str] = {}
    for subscriber_id in since:
        new = [SoftBounce(at, bounce_class) for _, bounce_class in by_subscriber[subscriber_id]]
        count = add_up(sorted([*history[subscriber_id], *new], key=lambda bounce: bounce.at), limits)
        counts.append({"of": subscriber_id, "points": count.points, "since": count.since})
        events += [
            {"at": at, "kind": SOFT_BOUNCE, "issue_id": issue_id or None, "subscriber_id": subscriber_id,
             "details": {"class": bounce_class.value}}
            for issue_id, bounce_class in by_subscriber[subscriber_id]
        ]  # fmt: skip
        if count.enough:
            enough[subscriber_id] = count.enough
    if counts:
        connection.execute(_SET_COUNT, counts)
        connection.execute(insert(Event), events)
    return enough


_SET_COUNT: Final = (
    update(Subscriber)
    .where(Subscriber.c.id == bindparam("of"))
    .values(soft_points=bindparam("points"), soft_since=bindparam("since"))
)


def _note(verdict: Verdict) -> str:
    name = verdict.bounce_class.value if verdict.bounce_class else "refused"
    return " ".join(part for part in (f"{name}:", verdict.enhanced, verdict.text) if part)
