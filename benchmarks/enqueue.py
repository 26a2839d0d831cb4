"""Enqueueing an issue for its audience against a bare SQL INSERT … SELECT of the same rows.

Ours chooses who may be mailed (status, pause, suppressions), freezes the edition and writes the issue,
in one durable transaction. The peer writes the same rows into a table with the same columns, key,
checks and indexes, in one durable transaction too, and asks nothing of anybody. Both begin with the same
database file, in turn.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from benchmarks import Figure
from benchmarks.people import database_of
from mailer.config import load
from mailer.config.shipped import shipped
from mailer.database.engine import Database
from mailer.delivery import editions, enqueueing
from mailer.delivery.clock import now

_COPY = "copied_deliveries"
_BARE = f"""
    INSERT INTO {_COPY} (issue_id, subscriber_id, state)
    SELECT 1, id, 'queued' FROM subscribers ORDER BY id
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how many deliveries, and how often."""
    parser.add_argument("--enqueue-rows", type=int, default=1_000_000, metavar="N", help="for 'enqueue'")
    parser.add_argument("--enqueue-rounds", type=int, default=5, metavar="N", help="for 'enqueue'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield the seconds of both, and their ratio."""
    rows = options.enqueue_rows
    with tempfile.TemporaryDirectory() as scratch:
        made = database_of(Path(scratch), rows)
        made.engine.dispose()
        _add_copy(Path(scratch) / "subscribers.db")
        ours, peer = [], []
        for _ in range(options.enqueue_rounds):
            ours.append(_ours(Path(scratch), rows))
            peer.append(_bare(Path(scratch), rows))
    ratio = statistics.median(one / other for one, other in zip(ours, peer, strict=True))
    yield Figure(
        "enqueue",
        f"seconds to queue {rows:,} deliveries",
        statistics.median(ours),
        statistics.median(peer),
        ratio,
        "<= 2",
        ratio <= 2,
        "s",
    )


def _add_copy(path: Path) -> None:
    """Make the table for the peer: that of deliveries under another name, indexes included."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT sql FROM sqlite_master WHERE tbl_name = 'deliveries' AND sql != ''"
        )
        for (statement,) in found.fetchall():
            connection.execute(
                statement.replace("CREATE INDEX ", "CREATE INDEX peer_").replace(" deliveries", f" {_COPY}")
            )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fresh(folder: Path) -> Path:
    """Return a folder with a copy of the database, settled on the disk."""
    round_folder = folder / "round"
    shutil.rmtree(round_folder, ignore_errors=True)
    round_folder.mkdir()
    shutil.copy(folder / "subscribers.db", round_folder)
    return round_folder


def _ours(folder: Path, rows: int) -> float:
    settings = load(shipped("config.toml"))
    path = next(shipped("issues").glob("*.md"))
    edition = editions.build(settings, path)
    database = Database("sqlite:///subscribers.db", folder=_fresh(folder))
    database.open()
    began = time.perf_counter()
    enqueueing.enqueue(settings, database, edition, path, "", at=now())
    seconds = time.perf_counter() - began
    _check(database.path, "deliveries", rows)
    database.engine.dispose()
    return seconds


def _bare(folder: Path, rows: int) -> float:
    path = _fresh(folder) / "subscribers.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_BARE)
        connection.execute("COMMIT")
        seconds = time.perf_counter() - began
    _check(path, _COPY, rows)
    return seconds


def _check(path: Path | None, table: str, rows: int) -> None:
    """Check the number of rows written."""
    assert path is not None
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    if found != rows:
        raise AssertionError(f"{found} rows in {table} instead of {rows}")
