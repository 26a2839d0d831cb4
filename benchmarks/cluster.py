"""What several workers do with one PostgreSQL database: book deliveries, and send an issue together.

For the first figure, each worker is a process that claims a window, settles all of it as sent, and claims
the next one, as a run does. PostgreSQL is the tests' own server, on the same machine, without fsync: what is
measured is the processor time of the claims and settles. The others are those of real workers (`_workers`).
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import Connection, select, text

from benchmarks import Figure, _workers
from benchmarks.people import PEOPLE
from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, StoredIssue
from mailer.delivery import issues
from mailer.delivery.bookkeeping import RunBooks
from mailer.delivery.clock import Clock, now
from mailer.delivery.queue import Settled
from mailer.replies import Refusal
from tests.delivery.scene import EDITION
from tests.postgres import running


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many workers, deliveries and messages."""
    parser.add_argument("--cluster-messages", type=int, default=1_500, metavar="N", help="for each worker")
    parser.add_argument("--cluster-rows", type=int, default=200_000, metavar="N", help="for 'cluster'")
    parser.add_argument("--cluster-workers", type=int, default=8, metavar="N", help="for 'cluster'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the deliveries booked in a second, and the messages that two and four workers send."""
    rows, workers = options.cluster_rows, options.cluster_workers
    with running() as server, server.lent_database() as url, Database(url) as database:
        with database.transaction() as connection:
            people = PEOPLE.replace("'{", "CAST('{").replace("}'", "}' AS json)")
            connection.execute(text(people), {"number": rows})
        with database.transaction() as connection:
            issues.enqueue(connection, EDITION, source_path="", at=now())
        command = [sys.executable, "-m", "benchmarks.cluster", url]
        began = time.monotonic()
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(workers)]
        ends = [process.communicate()[0].split() for process in processes]
        assert all(process.returncode == 0 for process in processes)
        with database.reading() as connection:
            sent = select(text("count(*)")).where(Delivery.c.state == DeliveryState.SENT.value)
            assert connection.scalar(sent.select_from(Delivery)) == rows
    # Without the time that the interpreters take to start.
    first, last = min(float(end[0]) for end in ends), max(float(end[1]) for end in ends)
    per_second = rows / (last - max(first, began))
    yield Figure(
        "cluster",
        f"deliveries claimed and settled a second by {workers} workers",
        per_second,
        None,
        None,
        ">= 5000",
        per_second >= 5_000,
    )
    if options.cluster_messages:
        yield from _workers.measure(options.cluster_messages)


async def _work(database: Database) -> None:
    with database.reading() as connection:
        issue_id = connection.scalars(select(StoredIssue.c.id)).one()
    books = RunBooks(database, issue_id, DeliverySettings(), learn=_learn_nothing, clock=Clock())
    books.begin(recover=False)
    while claimed := (await books.commit(500, frozenset())).claimed:
        for one in claimed:
            books.window.end(one.recipient.subscriber_id)
            settled = Settled(one.recipient.subscriber_id, DeliveryState.SENT, code=250)
            books.unwritten.outcomes.append(settled)
    books.end("")


def _learn_nothing(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
    return


if __name__ == "__main__":
    with Database(sys.argv[1]) as database:
        began = time.monotonic()
        asyncio.run(_work(database))
        print(began, time.monotonic())
