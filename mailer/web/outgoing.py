"""Delivering outgoing webhooks from the database."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from mailer.database.engine import Database
from mailer.delivery.clock import jitter, now
from mailer.web.posting import TIMEOUT_SECONDS, PostError, post
from mailer.webhooks import queue
from mailer.webhooks.queue import ClaimedHook
from mailer.webhooks.signing import body_of, headers_of

LOOK_SECONDS: Final = 10
"""How often to look for events."""
_AT_ONCE: Final = 20
_FOR_SECONDS: Final = 5.0
"""After this long, no more events are claimed until the next look, so that a process can stop."""
_USER_AGENT: Final = "mailer/1 (webhooks)"


def deliver(
    database: Database,
    *,
    clock: Callable[[], datetime] = now,
    spread: Callable[[], float] = jitter,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> int:
    """Deliver the events that are due, for some seconds, and return how many attempts were made.

    Events are claimed first, so several processes can do this together; an event may arrive twice if a
    process dies between the response and the commit, always with the same `webhook-id`.
    """
    attempts = 0
    at, until = clock(), time.monotonic() + _FOR_SECONDS
    while time.monotonic() < until:
        with database.reading() as connection:
            if not queue.due(connection, at=at):
                return attempts
        with database.transaction() as connection:
            claimed = queue.claim(connection, limit=_AT_ONCE, at=at)
        results = asyncio.run(_post_all(claimed, clock, timeout_seconds))
        with database.transaction() as connection:
            for hook, (status, said) in zip(claimed, results, strict=True):
                queue.settle(connection, hook, at=clock(), status=status, said=said, spread=spread())
        attempts += len(claimed)
    return attempts


def forget(database: Database, *, at: datetime) -> None:
    """Delete old events."""
    with database.transaction() as connection:
        queue.forget(connection, at=at)


async def _post_all(
    claimed: list[ClaimedHook], clock: Callable[[], datetime], timeout_seconds: float
) -> list[tuple[int | None, str]]:
    return await asyncio.gather(*(_post(hook, clock(), timeout_seconds) for hook in claimed))


async def _post(hook: ClaimedHook, at: datetime, timeout_seconds: float) -> tuple[int | None, str]:
    """Return the status of the response and, unless it took the event, the reason why not."""
    body = body_of(hook.type, hook.at, hook.data)
    headers = {**headers_of(hook.endpoint.secret, hook.uid, body, at=at), "user-agent": _USER_AGENT}
    try:
        status = await post(
            hook.endpoint.url,
            headers,
            body,
            allow_private=hook.endpoint.private,
            timeout_seconds=timeout_seconds,
        )
    except PostError as error:
        return None, str(error)
    return status, "" if 200 <= status < 300 else f"responded with {status}"
