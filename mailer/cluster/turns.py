"""Turns: jobs by which one worker sends one issue for up to a minute.

A worker gets at most one turn of an issue at a time, and has at most one more waiting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from procrastinate import App, SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from sqlalchemy import Connection

from mailer.cluster import engine, members
from mailer.cluster.members import Member
from mailer.config import DeliverySettings
from mailer.database.tables import CanaryState
from mailer.delivery.issues import QueuedIssue

TASK: Final = "turn"
# Has no connections of its own: jobs are added on those of the caller.
_QUEUE: Final = App(connector=SyncPsycopgConnector())


def queue_of(member_id: int) -> str:
    """Return the name of a worker's queue of turns."""
    return f"turns {member_id}"


def offer_to_all(connection: Connection, issue: QueuedIssue, settings: DeliverySettings) -> bool:
    """Offer a turn of an issue to the workers that are to send it; return False if none is running."""
    if not engine.is_prepared(connection):
        return False
    chosen = senders(members.living(connection), issue, settings)
    for member in chosen:
        offer(connection, issue.id, member.id)
    return bool(chosen)


def offer(connection: Connection, issue_id: int, member_id: int, *, after: timedelta | None = None) -> None:
    """Offer a turn to a worker, `after` some time at the earliest, unless one waits for it already."""
    lock = f"issue {issue_id} worker {member_id}"
    driver = engine.search(connection)
    deferrer = _QUEUE.configure_task(
        TASK,
        queue=queue_of(member_id),
        lock=lock,
        queueing_lock=lock,
        schedule_in=None if after is None else {"seconds": after.total_seconds()},
        connection=driver,
    )
    # A turn that waits already must not undo the rest of the transaction.
    with contextlib.suppress(AlreadyEnqueued), driver.transaction():
        deferrer.defer(issue_id=issue_id)


def senders(living: Sequence[Member], issue: QueuedIssue, settings: DeliverySettings) -> list[Member]:
    """Return the workers that are to send an issue: one until its canary has passed, then all or N."""
    if not living:
        return []
    canary = issue.canary not in (None, CanaryState.PASSED)
    number = 1 if canary else settings.turns or len(living)
    # Different issues go to different workers.
    first = issue.id % len(living)
    return [*living[first:], *living[:first]][:number]
