"""Clicks a second over HTTP, each counted, against an empty endpoint.

Both run as a process of their own and are asked by wrk over the same connections, in turn; the best of
several rounds counts. Afterwards every click that was answered is in the database.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, insert, select

from benchmarks import Figure
from benchmarks._wrk import load
from benchmarks.one_click import SIGNER, served, subscribers
from mailer.database.engine import Database
from mailer.database.tables import Event, IssueState, StoredEdition, StoredIssue
from mailer.rendering.edition import Edition
from mailer.tokens import Subject

_BAR = 0.4
_READERS = 5_000
_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many click in a round, and how many rounds there are."""
    parser.add_argument("--click-seconds", type=int, default=5, help="seconds a round (5)")
    parser.add_argument("--click-rounds", type=int, default=3, help="rounds, the best counts (3)")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the clicks a second and their 99th percentile."""
    seconds, rounds = options.click_seconds, options.click_rounds
    with tempfile.TemporaryDirectory() as name:
        database = subscribers(Path(name), _READERS)
        _issue(database)
        paths = [f"/c/{SIGNER.link(Subject(1, number))}/0" for number in range(1, _READERS + 1)]
        with served("ours", name) as port, served("empty", name) as peer_port:
            peer, ours = [], []
            for _ in range(rounds):
                peer.append(load(peer_port, paths, seconds=seconds))
                ours.append(load(port, paths, seconds=seconds))
        # The server has ended, and with it whatever waited was written.
        with database.reading() as connection:
            counted = connection.scalar(select(func.count()).select_from(Event)) or 0
        database.close()
    if counted < sum(one.requests - one.errors for one in ours):
        raise RuntimeError(f"{counted} of {sum(one.requests for one in ours)} clicks were counted")
    best, other = max(one.per_second for one in ours), max(one.per_second for one in peer)
    yield Figure(
        "clicks", "clicks, counted", best, other, best / other, f">= {_BAR}", best / other >= _BAR, "a second"
    )
    yield Figure("clicks", "99th percentile", max(one.p99_milliseconds for one in ours), unit="ms")
    yield Figure("clicks", "errors", sum(one.errors for one in ours))


def _issue(database: Database) -> None:
    """Store an issue with one link."""
    edition = Edition(
        slug="001-bench", title="Benchmark", subtitle="", author="", date="2026-03-04", number=1, tags=(),
        subject="Benchmark", preheader="", html="<p>", text="", links=("https://example.org/page",),
        images=(), made_of={},
    )  # fmt: skip
    with database.transaction() as connection:
        connection.execute(
            insert(StoredEdition).values(digest=edition.digest, content=edition.to_json(), created_at=_AT)
        )
        connection.execute(
            insert(StoredIssue).values(
                id=1, slug=edition.slug, title=edition.title, source_path="", edition_digest=edition.digest,
                state=IssueState.FINISHED, dated_at=_AT, created_at=_AT,
            )
        )  # fmt: skip
