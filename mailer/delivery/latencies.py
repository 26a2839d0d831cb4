"""How long connections, replies and deliveries take: counted in memory, added to the database now and then.

Any process that sends has a `Latencies`. The table has a row for each bucket of a histogram, and its
numbers only grow, so any process can serve the sum of all of them as a Prometheus histogram.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, select, text

from mailer.database.engine import Database
from mailer.database.tables import LatencyBucket
from mailer.errors import MailerError
from mailer.replies import ReplyClass, Verdict
from mailer.replies.mailbox_hosts import known_provider
from mailer.smtp.session import Attempt, Fate, Stage

WRITE_SECONDS: Final = 10.0
"""How often a process that sends adds its counts to the database."""
_SHORT: Final = (5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000)
_LONG: Final = (1_000, 5_000, 15_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000)
CONNECT: Final = "connect"
REPLY: Final = "reply"
ACCEPT: Final = "accept"
BOUNDS: Final[Mapping[str, tuple[int, ...]]] = {CONNECT: _SHORT, REPLY: _SHORT, ACCEPT: _LONG}
"""The upper bounds of each histogram's buckets in milliseconds."""
BEYOND: Final = 0
"""Stored in place of a bound by the bucket without one."""
_ADD: Final = text(
    "INSERT INTO latencies (measure, relay, provider, kind, up_to_ms, number, microseconds) "
    "VALUES (:measure, :relay, :provider, :kind, :up_to_ms, :number, :microseconds) "
    "ON CONFLICT (measure, relay, provider, kind, up_to_ms) DO UPDATE SET "
    "number = latencies.number + excluded.number, "
    "microseconds = latencies.microseconds + excluded.microseconds"
)
_log = logging.getLogger(__name__)
Key = tuple[str, str, str, str, int]


class Bucket(Struct):
    """How many measurements fell into one bucket, and their sum."""

    number: int = 0
    microseconds: int = 0


class Latencies:
    """The measurements of this process since it last wrote to the database."""

    def __init__(self, database: Database, ticks: Callable[[], float]) -> None:
        self._database = database
        self._ticks = ticks
        self._written_at = ticks()
        self._buckets: defaultdict[Key, Bucket] = defaultdict(Bucket)

    def connected(self, relay: str, seconds: float) -> None:
        """Count a connection: from dialling until the relay lets us send."""
        self._count(CONNECT, relay, "", "", seconds)

    def settled(self, attempt: Attempt, domain: str, relay: str, verdict: Verdict | None) -> None:
        """Count the relay's reply to a message to someone at `domain`, if it sent one."""
        if attempt.stage is Stage.LOCAL:
            return
        match attempt.fate:
            case Fate.ACCEPTED:
                kind = ReplyClass.ACCEPTED
            case Fate.REFUSED:
                kind = verdict.reply_class if verdict else ReplyClass.CONFIG
            case _:
                return
        self._count(REPLY, relay, known_provider(domain), kind.value, attempt.seconds)

    def accepted(self, domain: str, kind: str, seconds: float) -> None:
        """Count a message that the relay accepted this long after its issue or letter was queued."""
        self._count(ACCEPT, "", known_provider(domain), kind, max(0.0, seconds))

    async def write_when_due(self) -> None:
        """Add the counts to the database in a thread, unless that happened a moment ago."""
        if self._buckets and self._ticks() - self._written_at >= WRITE_SECONDS:
            await asyncio.to_thread(self.write)

    def write(self) -> None:
        """Add the counts to the database; if it does not answer, keep them for the next time."""
        buckets, self._buckets = self._buckets, defaultdict(Bucket)
        self._written_at = self._ticks()
        rows = [
            {
                "measure": measure, "relay": relay, "provider": provider, "kind": kind, "up_to_ms": bound,
                "number": one.number, "microseconds": one.microseconds,
            }
            # Sorted, so that two processes never wait for each other.
            for (measure, relay, provider, kind, bound), one in sorted(
                buckets.items(), key=lambda item: item[0]
            )
        ]  # fmt: skip
        if not rows:
            return
        try:
            with self._database.transaction() as connection:
                connection.execute(_ADD, rows)
        except MailerError as error:
            _log.debug("latencies are written later: %s", error)
            for key, kept in buckets.items():
                self._buckets[key].number += kept.number
                self._buckets[key].microseconds += kept.microseconds

    def _count(self, measure: str, relay: str, provider: str, kind: str, seconds: float) -> None:
        bounds = BOUNDS[measure]
        place = bisect_left(bounds, seconds * 1_000)
        bound = bounds[place] if place < len(bounds) else BEYOND
        bucket = self._buckets[measure, relay[:64], provider, kind, bound]
        bucket.number += 1
        bucket.microseconds += round(seconds * 1_000_000)


class Histogram(Struct, frozen=True):
    """One histogram of the database, with its labels."""

    relay: str
    provider: str
    kind: str
    cumulative: list[tuple[str, int]]
    """The upper bounds in seconds as Prometheus writes them, with the measurements up to each."""
    sum_seconds: float


def histograms(connection: Connection, measure: str) -> list[Histogram]:
    """Return the histograms of a measure, a few rows each."""
    found: dict[tuple[str, str, str], dict[int, Bucket]] = {}
    rows = connection.execute(
        select(
            LatencyBucket.c.relay, LatencyBucket.c.provider, LatencyBucket.c.kind, LatencyBucket.c.up_to_ms,
            LatencyBucket.c.number, LatencyBucket.c.microseconds,
        ).where(LatencyBucket.c.measure == measure)
    )  # fmt: skip
    for relay, provider, kind, bound, number, microseconds in rows:
        found.setdefault((relay, provider, kind), {})[bound] = Bucket(number, microseconds)
    return [
        Histogram(*labels, _cumulative(measure, buckets), sum(x.microseconds for x in buckets.values()) / 1e6)
        for labels, buckets in sorted(found.items())
    ]


def _cumulative(measure: str, buckets: Mapping[int, Bucket]) -> list[tuple[str, int]]:
    so_far, result = 0, []
    # An earlier release may have had other bounds.
    for bound in sorted({*BOUNDS[measure], *buckets} - {BEYOND}):
        so_far += buckets[bound].number if bound in buckets else 0
        result.append((str(bound / 1_000), so_far))
    beyond = buckets[BEYOND].number if BEYOND in buckets else 0
    return [*result, ("+Inf", so_far + beyond)]
