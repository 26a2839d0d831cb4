"""The events that wait for an endpoint, and the outcome of each delivery."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import Connection, bindparam, delete, select, update

from mailer.database.rows import insert_rows
from mailer.database.tables import Subscriber, WebhookDelivery, WebhookEndpoint, WebhookEvent
from mailer.errors import SourceError
from mailer.webhooks.endpoints import Endpoint, active_endpoints, endpoint_of

KEPT_FOR: Final = timedelta(days=30)
# The schedule that Standard Webhooks suggests: after the last of these, a delivery has failed.
RETRIES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
_CLAIM_LASTS: Final = timedelta(minutes=5)
"""Longer than one request can take; then another process may try."""
_MAX_SAID: Final = 200


class HookState(StrEnum):
    """The state of one delivery to one endpoint."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class Occurrence(Struct, frozen=True):
    """Something that happened: an event before it is stored."""

    type: str
    data: Mapping[str, Any]
    subscriber_id: int | None = None
    """The sender adds this person's address, as long as it is stored."""


@dataclass(frozen=True, slots=True)
class ClaimedHook:
    """A delivery that this process tries now."""

    endpoint: Endpoint
    uid: str
    type: str
    at: datetime
    data: Mapping[str, Any] = field(hash=False)
    attempts: int
    """Attempts, this one included."""


class HookDelivery(Struct, frozen=True):
    """A delivery as the listing shows it."""

    uid: str
    endpoint_id: int
    url: str
    type: str
    at: datetime
    state: HookState
    attempts: int
    due_at: datetime | None
    status: int | None
    said: str


def put(connection: Connection, occurrences: Sequence[Occurrence], *, at: datetime) -> None:
    """Store events for every endpoint that wants them, in the transaction of the facts."""
    if not occurrences or not (endpoints := active_endpoints(connection)):
        return
    events: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    for one in occurrences:
        wanting = [endpoint.id for endpoint in endpoints if endpoint.wants(one.type)]
        if not wanting:
            continue
        uid = f"evt_{secrets.token_hex(12)}"
        events.append(
            {
                "uid": uid,
                "type": one.type,
                "at": at,
                "subscriber_id": one.subscriber_id,
                "data": dict(one.data),
            }
        )
        deliveries += [
            {"event_uid": uid, "endpoint_id": endpoint_id, "state": HookState.WAITING.value, "due_at": at}
            for endpoint_id in wanting
        ]
    insert_rows(connection, WebhookEvent, events)
    insert_rows(connection, WebhookDelivery, deliveries)


def due(connection: Connection, *, at: datetime) -> bool:
    """Return whether there is a delivery to try."""
    return (
        connection.scalar(select(WebhookDelivery.c.event_uid).where(WebhookDelivery.c.due_at <= at).limit(1))
        is not None
    )


def claim(connection: Connection, *, limit: int, at: datetime) -> list[ClaimedHook]:
    """Claim deliveries that are due, the oldest first."""
    rows = connection.execute(
        select(WebhookDelivery.c.event_uid, WebhookDelivery.c.endpoint_id, WebhookDelivery.c.attempts)
        .where(WebhookDelivery.c.due_at <= at)
        .order_by(WebhookDelivery.c.due_at, WebhookDelivery.c.event_uid)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return []
    uids, endpoint_ids = {row.event_uid for row in rows}, {row.endpoint_id for row in rows}
    events = {
        event.uid: event
        for event in connection.execute(
            select(WebhookEvent, Subscriber.c.address)
            .outerjoin(Subscriber, Subscriber.c.id == WebhookEvent.c.subscriber_id)
            .where(WebhookEvent.c.uid.in_(uids))
        )
    }
    endpoints = {
        stored.id: endpoint_of(stored)
        for stored in connection.execute(
            select(WebhookEndpoint).where(WebhookEndpoint.c.id.in_(endpoint_ids))
        )
    }
    claimed: list[ClaimedHook] = []
    for row in rows:
        event = events[row.event_uid]
        data = dict(event.data)
        if event.subscriber_id is not None:
            data |= {"subscriber_id": event.subscriber_id, "address": event.address or None}
        endpoint = endpoints[row.endpoint_id]
        claimed.append(ClaimedHook(endpoint, event.uid, event.type, event.at, data, row.attempts + 1))
    connection.execute(
        _CLAIM,
        [
            {"uid": one.uid, "to": one.endpoint.id, "until": at + _CLAIM_LASTS, "attempt": one.attempts}
            for one in claimed
        ],
    )
    return claimed


_CLAIM: Final = (
    update(WebhookDelivery)
    .where(WebhookDelivery.c.event_uid == bindparam("uid"), WebhookDelivery.c.endpoint_id == bindparam("to"))
    .values(due_at=bindparam("until"), attempts=bindparam("attempt"))
)


def settle(
    connection: Connection,
    hook: ClaimedHook,
    *,
    at: datetime,
    status: int | None,
    said: str,
    spread: float = 1.0,
) -> HookState:
    """Record an attempt; `status` is that of the response, or None without one.

    2xx takes the event, and 410 disables the endpoint. Anything else is tried again, after a delay that is
    multiplied by `spread`.
    """
    taken = status is not None and 200 <= status < 300
    gone = status == 410
    left = hook.attempts <= len(RETRIES) and not gone
    state = HookState.SENT if taken else HookState.WAITING if left else HookState.FAILED
    due_at = at + RETRIES[hook.attempts - 1] * spread if state is HookState.WAITING else None
    connection.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.c.event_uid == hook.uid,
            WebhookDelivery.c.endpoint_id == hook.endpoint.id,
            WebhookDelivery.c.attempts == hook.attempts,
        )
        .values(state=state.value, due_at=due_at, changed_at=at, code=status, said=said[:_MAX_SAID])
    )
    if gone:
        connection.execute(
            update(WebhookEndpoint).where(WebhookEndpoint.c.id == hook.endpoint.id).values(disabled_at=at)
        )
        waiting = WebhookDelivery.c.state == HookState.WAITING.value
        connection.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.c.endpoint_id == hook.endpoint.id, waiting)
            .values(state=HookState.FAILED.value, due_at=None, changed_at=at, said="the endpoint is disabled")
        )
    return state


def deliveries(
    connection: Connection, *, endpoint_id: int | None = None, state: HookState | None = None, limit: int = 50
) -> list[HookDelivery]:
    """Return the latest deliveries, newest first."""
    chosen = (
        select(
            WebhookDelivery,
            WebhookEvent.c.type,
            WebhookEvent.c.at,
            WebhookEndpoint.c.url,
        )
        .join(WebhookEvent, WebhookEvent.c.uid == WebhookDelivery.c.event_uid)
        .join(WebhookEndpoint, WebhookEndpoint.c.id == WebhookDelivery.c.endpoint_id)
        .order_by(WebhookEvent.c.at.desc(), WebhookEvent.c.uid, WebhookDelivery.c.endpoint_id)
        .limit(limit)
    )
    if endpoint_id is not None:
        chosen = chosen.where(WebhookDelivery.c.endpoint_id == endpoint_id)
    if state is not None:
        chosen = chosen.where(WebhookDelivery.c.state == state.value)
    return [
        HookDelivery(
            row.event_uid,
            row.endpoint_id,
            row.url,
            row.type,
            row.at,
            HookState(row.state),
            row.attempts,
            row.due_at,
            row.code,
            row.said,
        )
        for row in connection.execute(chosen)
    ]


def resend(connection: Connection, uid: str, *, at: datetime) -> int:
    """Deliver an event again, to every endpoint that got it; return to how many.

    It keeps its `webhook-id`, so that a receiver can recognise it. Raises `SourceError` if it is not kept.
    """
    if connection.scalar(select(WebhookEvent.c.uid).where(WebhookEvent.c.uid == uid)) is None:
        raise SourceError(
            f"there is no event '{uid}'", remedy="list the events with: mailer webhooks deliveries"
        )
    enabled = select(WebhookEndpoint.c.id).where(WebhookEndpoint.c.disabled_at.is_(None))
    return connection.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.c.event_uid == uid, WebhookDelivery.c.endpoint_id.in_(enabled))
        .values(state=HookState.WAITING.value, attempts=0, due_at=at)
    ).rowcount


def forget(connection: Connection, *, at: datetime) -> None:
    """Delete the events that are older than `KEPT_FOR`, with their deliveries."""
    old = select(WebhookEvent.c.uid).where(WebhookEvent.c.at < at - KEPT_FOR)
    connection.execute(delete(WebhookDelivery).where(WebhookDelivery.c.event_uid.in_(old)))
    connection.execute(delete(WebhookEvent).where(WebhookEvent.c.at < at - KEPT_FOR))
