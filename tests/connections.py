"""Two connections to one PostgreSQL database, each in a transaction of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import text

from mailer.database.engine import Database
from tests.postgres import Server

_WAIT_SECONDS = 20.0
T = TypeVar("T")


@contextmanager
def new_database(server: Server) -> Iterator[Database]:
    """Yield an empty database of the newest schema on a PostgreSQL server."""
    with server.lent_database() as url, Database(url) as database:
        yield database


def wait_until_blocked(database: Database, number: int = 1) -> None:
    """Return once that many connections wait for a lock; fail if they never do."""
    until = time.monotonic() + _WAIT_SECONDS
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while True:
            blocked = connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            )
            if blocked == number:
                return
            assert time.monotonic() < until, f"{blocked} connections wait for a lock, not {number}"
            time.sleep(0.01)


@contextmanager
def in_threads(work: Callable[[], T], times: int = 1) -> Iterator[list[Future[T]]]:
    """Do the work in threads beside the block; their results are ready after it."""
    with ThreadPoolExecutor(times) as threads:
        yield [threads.submit(work) for _ in range(times)]
