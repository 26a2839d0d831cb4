"""The events that wait for an endpoint, and the outcome of each delivery."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from mailer.database.models import Subscriber, WebhookDelivery, WebhookEndpoint, WebhookEvent
from mailer.database.rows import insert_rows
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


def put(session: Session, occurrences: Sequence[Occurrence], *, at: datetime) -> None:
    """Store events for every endpoint that wants them, in the transaction of the facts."""
    if not occurrences or not (endpoints := active_endpoints(session)):
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
    insert_rows(session, WebhookEvent, events)
    insert_rows(session, WebhookDelivery, deliveries)


def due(session: Session, *, at: datetime) -> bool:
    """Return whether there is a delivery to try."""
    return (
        session.scalar(select(WebhookDelivery.event_uid).where(WebhookDelivery.due_at <= at).limit(1))
        is not None
    )


def claim(session: Session, *, limit: int, at: datetime) -> list[ClaimedHook]:
    """Claim deliveries that are due, the oldest first."""
    rows = session.scalars(
        select(WebhookDelivery)
        .where(WebhookDelivery.due_at <= at)
        .order_by(WebhookDelivery.due_at, WebhookDelivery.event_uid)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    claimed: list[ClaimedHook] = []
    for row in rows:
        row.due_at, row.attempts = at + _CLAIM_LASTS, row.attempts + 1
        event = session.get_one(WebhookEvent, row.event_uid)
        endpoint = endpoint_of(session.get_one(WebhookEndpoint, row.endpoint_id))
        data = {**event.data, **_person(session, event.subscriber_id)}
        claimed.append(ClaimedHook(endpoint, event.uid, event.type, event.at, data, row.attempts))
    session.flush()
    return claimed


def _person(session: Session, subscriber_id: int | None) -> dict[str, Any]:
    if subscriber_id is None:
        return {}
    known = session.get(Subscriber, subscriber_id)
    return {"subscriber_id": subscriber_id, "address": (known.address if known else "") or None}


def settle(
    session: Session, hook: ClaimedHook, *, at: datetime, status: int | None, said: str, spread: float = 1.0
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
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.event_uid == hook.uid,
            WebhookDelivery.endpoint_id == hook.endpoint.id,
            WebhookDelivery.attempts == hook.attempts,
        )
        .values(state=state.value, due_at=due_at, changed_at=at, code=status, said=said[:_MAX_SAID])
    )
    if gone:
        session.execute(
            update(WebhookEndpoint).where(WebhookEndpoint.id == hook.endpoint.id).values(disabled_at=at)
        )
        waiting = WebhookDelivery.state == HookState.WAITING.value
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.endpoint_id == hook.endpoint.id, waiting)
            .values(state=HookState.FAILED.value, due_at=None, changed_at=at, said="the endpoint is disabled")
        )
    return state


def deliveries(
    session: Session, *, endpoint_id: int | None = None, state: HookState | None = None, limit: int = 50
) -> list[HookDelivery]:
    """Return the latest deliveries, newest first."""
    chosen = (
        select(WebhookDelivery, WebhookEvent, WebhookEndpoint.url)
        .join(WebhookEvent, WebhookEvent.uid == WebhookDelivery.event_uid)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .order_by(WebhookEvent.at.desc(), WebhookEvent.uid, WebhookDelivery.endpoint_id)
        .limit(limit)
    )
    if endpoint_id is not None:
        chosen = chosen.where(WebhookDelivery.endpoint_id == endpoint_id)
    if state is not None:
        chosen = chosen.where(WebhookDelivery.state == state.value)
    return [
        HookDelivery(
            event.uid,
            row.endpoint_id,
            url,
            event.type,
            event.at,
            HookState(row.state),
            row.attempts,
            row.due_at,
            row.code,
            row.said,
        )
        for row, event, url in session.execute(chosen)
    ]


def resend(session: Session, uid: str, *, at: datetime) -> int:
    """Deliver an event again, to every endpoint that got it; return to how many.

    It keeps its `webhook-id`, so that a receiver can recognise it. Raises `SourceError` if it is not kept.
    """
    if session.get(WebhookEvent, uid) is None:
        raise SourceError(
            f"there is no event '{uid}'", remedy="list the events with: mailer webhooks deliveries"
        )
    enabled = select(WebhookEndpoint.id).where(WebhookEndpoint.disabled_at.is_(None))
    again = list(
        session.scalars(
            select(WebhookDelivery)
            .where(WebhookDelivery.event_uid == uid, WebhookDelivery.endpoint_id.in_(enabled))
            .with_for_update()
        )
    )
    for row in again:
        row.state, row.attempts, row.due_at = HookState.WAITING.value, 0, at
    session.flush()
    return len(again)


def forget(session: Session, *, at: datetime) -> None:
    """Delete the events that are older than `KEPT_FOR`, with their deliveries."""
    old = select(WebhookEvent.uid).where(WebhookEvent.at < at - KEPT_FOR)
    session.execute(delete(WebhookDelivery).where(WebhookDelivery.event_uid.in_(old)))
    session.execute(delete(WebhookEvent).where(WebhookEvent.at < at - KEPT_FOR))
