"""A rehearsal: send an issue to its real audience, but to a server of our own that misbehaves.

Everything happens in a temporary database: the audience is copied into it, and the real one is only read.
The run uses the code that really sends, on a clock that skips every wait.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Executable, insert, select

from mailer.audience.vocabulary import empty_audience
from mailer.config import DeliverySettings, ProviderLimits, Relay, Security, Settings
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberTag
from mailer.delivery import editions, enqueueing, issues
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.ending import Ended
from mailer.delivery.issues import QueuedIssue, audience
from mailer.delivery.sender import Hooks, Sender
from mailer.rehearsal import script
from mailer.rehearsal.fast_time import FastLoop
from mailer.rehearsal.scenario import Scenario
from mailer.rehearsal.server import RehearsalServer, Returned, Seen
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer
from mailer.smtp.pool import Access, Network
from mailer.tokens import Signer

_COPIED_AT_ONCE: Final = 5_000
_SETTLE_SECONDS: Final = 3600.0
"""Long, since outcomes are written with each claim as well, and skipped time would trigger it often."""
_NO_RELAY: Final = Relay(host="127.0.0.1", security=Security.PLAIN, messages_per_connection=1_000_000)


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The result of a rehearsal."""

    ended: Ended
    seen: Seen
    lasted: timedelta
    """On the rehearsal's clock, including retries."""
    took_seconds: float
    """In real time."""
    maildir: Path
    """Holds the bounces."""
    returned: int


def rehearse(
    settings: Settings,
    database: Database,
    copy: Database,
    edition: Edition,
    scenario: Scenario,
    folder: Path,
    *,
    segment: str,
    learn: Learn,
    at: datetime,
    progress: Callable[[Books], None] = lambda books: None,
) -> tuple[Rehearsed, Signer]:
    """Rehearse sending an issue, from a copy of the audience; return the result and the run's signer.

    `copy` is a new database and `folder` takes the bounces; both belong to the caller. Ctrl-C stops
    cleanly. Raises `RefusedError` for an empty audience.
    """
    issue = _enqueue(settings, database, copy, edition, segment, at)
    # The copy has its own secrets, so links and return paths of a rehearsal work nowhere.
    signer = Signer(copy.secrets())
    composer = editions.composer(settings, edition, issue.id, signer, public=not segment)
    numbers = itertools.count(1)

    def bounce(returned: Returned) -> None:
        report = script.report(returned.header, status=returned.status, diagnostic=returned.diagnostic)
        script.put(folder / "bounces", f"{next(numbers)}.returned", report)

    server = RehearsalServer(scenario, bounce=bounce)
    began = time.monotonic()
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        ended, seconds = runner.run(
            _run(
                copy,
                issue,
                composer,
                server,
                settings.relays or {"none": _NO_RELAY},
                settings.providers,
                msgspec.structs.replace(settings.delivery, wait_for_retries=True),
                learn=learn,
                at=at,
                progress=progress,
            )
        )
    rehearsed = Rehearsed(
        ended,
        server.seen,
        timedelta(seconds=seconds),
        time.monotonic() - began,
        folder / "bounces",
        next(numbers) - 1,
    )
    return rehearsed, signer


def _enqueue(
    settings: Settings,
    database: Database,
    copy: Database,
    edition: Edition,
    segment: str,
    at: datetime,
) -> QueuedIssue:
    """Queue the issue in `copy`, for a copy of the audience."""
    copy.open()
    if not copy_audience(database, copy, enqueueing.audience_condition(settings, segment), at=at):
        with database.reading() as connection:
            raise empty_audience(connection, segment)
    with copy.transaction() as connection:
        issue, _ = issues.enqueue(connection, edition.arm(0), source_path="", at=at)
    return issue


async def _run(
    database: Database,
    issue: QueuedIssue,
    composer: Composer,
    server: RehearsalServer,
    relays: dict[str, Relay],
    providers: dict[str, ProviderLimits],
    settings: DeliverySettings,
    *,
    learn: Learn,
    at: datetime,
    progress: Callable[[Books], None],
) -> tuple[Ended, float]:
    """Run to the end; return the ending and the duration by the run's own clock."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with server:
        sender = Sender(
            database,
            issue.id,
            composer,
            Network(
                {name: Access(await server.relay(relay)) for name, relay in relays.items()},
                providers,
                client_name="rehearsal.localhost",
            ),
            settings,
            Hooks(learn, progress),
            Clock(
                now=lambda: at + timedelta(seconds=loop.time() - began),
                ticks=loop.time,
                settle_seconds=_SETTLE_SECONDS,
                # Nobody else changes this clock or queues anything.
                look_again_seconds=math.inf,
            ),
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, sender.stop)
        try:
            ended = await sender.run()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    return ended, loop.time() - began


def copy_audience(
    source: Database, target: Database, condition: ColumnElement[bool] | None, *, at: datetime
) -> int:
    """Copy the people who would be mailed now, with their tags, into another database; return how many."""
    copied = 0
    who = audience(condition, at=at)
    tags = select(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag).order_by(SubscriberTag.c.subscriber_id)
    with source.reading() as reading, target.transaction() as writing:
        for rows in _rows(reading, select(Subscriber).where(who).order_by(Subscriber.c.id)):
            writing.execute(insert(Subscriber), rows)
            copied += len(rows)
        for rows in _rows(
            reading, tags.where(SubscriberTag.c.subscriber_id.in_(select(Subscriber.c.id).where(who)))
        ):
            writing.execute(insert(SubscriberTag), rows)
    return copied


def _rows(connection: Connection, wanted: Executable) -> Iterator[list[dict[str, object]]]:
    found = connection.execute(wanted.execution_options(yield_per=_COPIED_AT_ONCE))
    for part in found.mappings().partitions():
        yield [dict(row) for row in part]
