"""Real `mailer worker` processes that send one issue together: what two and four add up to.

Each has a folder and a relay of its own: smtp-sink, which replies to each message after a second, so that
no processor is the limit. One worker alone gives the figure of which the others are compared with the sum.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from benchmarks import Figure
from benchmarks._sink import sink
from mailer.cluster import members
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Run
from mailer.delivery.issues import QueuedIssue
from tests.cluster.scene import QUICK, WorkerThread, settings, wait_until
from tests.delivery.scene import books, queued
from tests.end_to_end.newsletter import Folder
from tests.postgres import Server, running

_CONNECTIONS: Final = 60
_REPLY_SECONDS: Final = 1
_TURN_SECONDS: Final = 3.0
_CONFIG: Final = """\
[paths]
database = "{url}"
{relays}
[web]
public_url = "https://news.example.org"
"""
_RELAY: Final = """\
[relays.m{number}]
host = "127.0.0.1"
port = {port}
security = "plain"
connections = {connections}
machines = ["m{number}"]
"""


def measure(each: int) -> Iterator[Figure]:
    """Yield messages a second of two and four workers beside the sum, and what a turn costs.

    Each worker has that many messages to send.
    """
    with ExitStack() as stack:
        port, quick = stack.enter_context(sink(_REPLY_SECONDS)), stack.enter_context(sink())
        server = stack.enter_context(running())
        alone = _together(server, port, 1, each)
        for workers in (2, 4):
            per_second = _together(server, port, workers, each)
            ratio = per_second / (workers * alone)
            yield Figure(
                "cluster", f"messages a second of {workers} workers beside the sum of one",
                per_second, workers * alone, ratio, ">= 0.85", ratio >= 0.85, "/s",
            )  # fmt: skip
        yield Figure(
            "cluster", "between two turns of a worker", _between_turns(server, quick) * 1e3, unit="ms"
        )


def _together(server: Server, port: int, workers: int, each: int) -> float:
    """Let workers send an issue; return messages a second in its middle.

    The middle is from when a tenth was sent until nine tenths were: all workers are at work then.
    """
    url = server.new_database()
    relays = "".join(
        _RELAY.format(number=number, port=port, connections=_CONNECTIONS) for number in range(workers)
    )
    with tempfile.TemporaryDirectory() as scratch, Database(url) as database:
        database.open()
        number = workers * each
        config = _CONFIG.format(url=url, relays=relays)
        folders = [Folder(Path(scratch) / f"m{number}", config) for number in range(workers)]
        processes = [folder.start("worker", "--name", f"m{number}") for number, folder in enumerate(folders)]
        try:
            _wait_for(database, workers)
            issue = queued(database, number)
            first = _when(database, issue, number // 10)
            last = _when(database, issue, number * 9 // 10)
            _when(database, issue, number)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.communicate()
    return (number * 9 // 10 - number // 10) / (last - first)


def _wait_for(database: Database, workers: int) -> None:
    """Return once all workers wait for something to send."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with database.reading() as connection:
            if len(members.living(connection)) == workers:
                return
        time.sleep(0.1)
    raise SystemExit("the workers did not start within two minutes")


def _when(database: Database, issue: QueuedIssue, sent: int) -> float:
    """Return when that many messages had been sent."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        with database.reading() as connection:
            found = connection.scalar(
                select(func.count()).where(
                    Delivery.c.issue_id == issue.id, Delivery.c.state == DeliveryState.SENT.value
                )
            )
        if (found or 0) >= sent:
            return time.monotonic()
        time.sleep(0.1)
    raise SystemExit(f"only {found} of {sent} messages were sent in ten minutes")


def _between_turns(server: Server, port: int) -> float:
    """Return the mean seconds from the end of a worker's turn until its next one begins."""
    url = server.new_database()
    with tempfile.TemporaryDirectory() as folder, Database(url) as database:
        database.open()
        people = 800
        issue = queued(database, people)
        times = replace(QUICK, turn_seconds=_TURN_SECONDS)
        with WorkerThread(url, settings(Path(folder), port, rate=40), times=times):
            wait_until(lambda: books(database, issue).sent == people, 120)
        with database.reading() as connection:
            runs = list(connection.execute(select(Run.c.started_at, Run.c.ended_at).order_by(Run.c.id)))
    gaps = [
        (later.started_at - earlier.ended_at).total_seconds()
        for earlier, later in pairwise(runs)
        if earlier.ended_at is not None
    ]
    return float(sum(gaps) / len(gaps))
