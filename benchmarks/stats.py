"""Statistics of a year: 1,000,000 subscribers and 52 issues."""

from __future__ import annotations

import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

from benchmarks import Figure
from benchmarks.people import database_of
from mailer.database.columns import to_microseconds
from mailer.database.engine import Database
from mailer.reports import statistics
from mailer.reports.overview import overview
from mailer.reports.rollups import refresh

_NOW: Final = datetime(2026, 12, 28, 12, 0, tzinfo=UTC)
ISSUES: Final = 52
_SEGMENTS: Final = {"weekly": 'plan = "weekly"'}
# A tenth left again. Of the newest issue, everyone got a message within an hour; half of them opened it, a
# third of those through a machine, and a tenth clicked. A third agreed to tracking.
_YEAR: Final = (
    "UPDATE subscribers SET tracking_consent = id % 3 = 0, domain = 'd' || (id % 997) || '.example'",
    """INSERT INTO consents (subscriber_id, at, before, after, way)
       SELECT id, :start + id * (:year / :people), '', 'active', 'form' FROM subscribers""",
    """INSERT INTO consents (subscriber_id, at, before, after, way, issue_id)
       SELECT id, :start + id * (:year / :people) + :year / 20, 'active', 'unsubscribed', 'page', 1
       FROM subscribers WHERE id % 10 = 0""",
    "UPDATE subscribers SET status = 'unsubscribed' WHERE id % 10 = 0",
    """INSERT INTO editions (digest, content, created_at)
       VALUES ('d', '{"links": ["https://example.org"]}', 0)""",
    """WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :issues)
       INSERT INTO issues
         (id, slug, title, source_path, edition_digest, state, audience, dated_at, created_at, finished_at)
       SELECT n, 'issue-' || n, 'Issue', '', 'd', 'finished', :people, :start + n * :week,
         :start + n * :week, :start + n * :week FROM numbers""",
    """INSERT INTO deliveries (issue_id, subscriber_id, state, attempts, first_at, changed_at, bounce_class)
       SELECT 1, id, iif(id % 50 = 0, 'failed', 'sent'), 1, :start + :week + id * 3600,
         :start + :week + id * 3600, iif(id % 50 = 0, 'no-mailbox', NULL) FROM subscribers""",
    """INSERT INTO events (at, kind, issue_id, subscriber_id, details)
       SELECT :start + :week + id * 600000, iif(id % 10 = 0, 'click', 'open'), 1,
         iif(tracking_consent, id, NULL),
         iif(id % 10 = 0, json_object('link', id % 20), iif(id % 6 = 0, '{"machine": "apple"}', '{}'))
       FROM subscribers WHERE id % 2 = 0""",
)
COPY: Final = """
    WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < :issues)
    INSERT INTO issue_counts (issue_id, facet, name, measure, number)
    SELECT n, facet, iif(facet IN ('sent', 'hour'), printf('%07d', name + 168 * (n - 1)), name),
      measure, number
    FROM numbers, issue_counts WHERE issue_id = 1 ORDER BY n
"""


def add_options(parser: ArgumentParser) -> None:
    """Add the size of the list."""
    parser.add_argument("--stats-people", type=int, default=1_000_000, help="subscribers of the statistics")


def measure(options: Namespace) -> Iterator[Figure]:
    """Yield the processor time of each answer and of counting."""
    with tempfile.TemporaryDirectory() as folder, database_of(Path(folder), options.stats_people) as database:
        fill(database, options.stats_people)
        yield Figure("stats", "count a list and an issue from nothing", _refresh(database), unit="s")
        with database.transaction() as connection:
            # The other issues have only counts: no answer reads their deliveries.
            connection.execute(text(COPY), {"issues": ISSUES})
        yield _bar("overview of a year", database, lambda connection: overview(connection, at=_NOW, zone=UTC))
        yield _bar("one issue", database, lambda connection: statistics.issue_statistics(connection, 1))
        yield _bar(
            "growth of a year",
            database,
            lambda connection: statistics.growth(
                connection, (_NOW - timedelta(days=364)).date(), _NOW.date()
            ),
        )
        yield _bar("list health", database, statistics.list_health)
        yield Figure("stats", "refresh when nothing changed", 1000 * _refresh(database), unit="ms")
        with database.transaction() as connection:
            connection.execute(
                text(
                    "INSERT INTO events (at, kind, issue_id, subscriber_id, details) "
                    "SELECT at, 'click', 1, subscriber_id, '{\"link\": 1}' FROM events LIMIT 10000"
                )
            )
        yield Figure("stats", "refresh after 10,000 clicks", 1000 * _refresh(database), unit="ms")


def fill(database: Database, people: int) -> None:
    """Give the list a year of history, and an issue that everyone got."""
    values = {
        "people": people,
        "issues": ISSUES,
        "start": to_microseconds(_NOW - timedelta(days=366)),
        "year": timedelta(days=360) // timedelta(microseconds=1),
        "week": timedelta(days=7) // timedelta(microseconds=1),
    }
    with database.transaction() as connection:
        for statement in _YEAR:
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), used)


def _refresh(database: Database) -> float:
    start = time.process_time()
    assert refresh(database, at=_NOW, segments=_SEGMENTS, quiet_days=30)
    return time.process_time() - start


def _bar(name: str, database: Database, answer: Callable[[Connection], object]) -> Figure:
    """Return the processor time of an answer, the best of five: others may be using the machine."""
    took: list[float] = []
    for _ in range(5):
        start = time.process_time()
        with database.reading() as connection:
            answer(connection)
        took.append(1000 * (time.process_time() - start))
    best = min(took)
    return Figure("stats", name, best, bar="≤ 200", holds=best <= 200, unit="ms")
