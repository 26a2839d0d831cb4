"""Store reports as they arrive, before doing anything else with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum, auto
from typing import Final, TypeVar

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from mailer.database.engine import Database
from mailer.database.tables import StoredReport

_T = TypeVar("_T")
STORED: Final = "stored"
"""The outcome of a report that has not been read yet."""
_TRIED: Final = "tried"


class Progress(Enum):
    """How far a stored message had come when it arrived."""

    NEW = auto()
    WAITING = auto()
    """It arrived before but was not acted on: the process ended, or another one is working on it."""
    TRIED = auto()
    """The same, and the process ended while it was reading this message."""
    DONE = auto()


def store(
    database: Database, raws: Sequence[bytes], *, source: str, at: datetime
) -> list[tuple[int, Progress]]:
    """Store messages as they came; return the number and the progress of each.

    Messages with the same octets have the same number.
    """

    def step() -> list[tuple[int, Progress]]:
        with database.transaction() as connection:
            return [_store_one(connection, raw, source, at) for raw in raws]

    return despite_others(step)


def despite_others(step: Callable[[], _T]) -> _T:
    """Return what a transaction that stores reports returns.

    It is repeated if another process stored one of them between its SELECT and its INSERT.
    """
    try:
        return step()
    except IntegrityError:
        return step()


def insert_report(connection: Connection, raw: bytes, *, source: str, at: datetime) -> int:
    """Store one report in the caller's transaction and return its number."""
    return _store_one(connection, raw, source, at)[0]


def _store_one(connection: Connection, raw: bytes, source: str, at: datetime) -> tuple[int, Progress]:
    digest = hashlib.sha256(raw).hexdigest()
    known = connection.execute(
        select(StoredReport.c.id, StoredReport.c.outcome, StoredReport.c.details).where(
            StoredReport.c.digest == digest
        )
    ).one_or_none()
    if known is not None:
        return known.id, _progress(known.outcome, known.details)
    report_id = connection.execute(
        insert(StoredReport)
        .values(received_at=at, source=source, digest=digest, raw=raw, kind="", outcome=STORED, details={})
        .returning(StoredReport.c.id)
    ).scalar_one()
    return report_id, Progress.NEW


def _progress(outcome: str, details: dict[str, object]) -> Progress:
    if outcome != STORED:
        return Progress.DONE
    return Progress.TRIED if _TRIED in details else Progress.WAITING


@contextmanager
def attempt(database: Database, report_id: int) -> Iterator[None]:
    """Note that a message is being read. The note remains only if the process dies in the meantime."""
    _note(database, report_id, {_TRIED: True})
    try:
        yield
    finally:
        _note(database, report_id, {})


def _note(database: Database, report_id: int, details: dict[str, object]) -> None:
    with database.transaction() as connection:
        connection.execute(
            update(StoredReport)
            .where(StoredReport.c.id == report_id, StoredReport.c.outcome == STORED)
            .values(details=details)
        )
