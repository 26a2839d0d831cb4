"""Store reports as they arrive, before doing anything else with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import Enum, auto
from typing import Final, TypeVar

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailer.database.models import StoredReport
from mailer.database.session import Database

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
        with database.transaction() as session:
            return [_store_one(session, raw, source, at) for raw in raws]

    return despite_others(step)


def despite_others(step: Callable[[], _T]) -> _T:
    """Return what a transaction that stores reports returns.

    It is repeated if another process stored one of them between its SELECT and its INSERT.
    """
    try:
        return step()
    except IntegrityError:
        return step()


def insert_report(session: Session, raw: bytes, *, source: str, at: datetime) -> int:
    """Store one report in the caller's transaction and return its number."""
    return _store_one(session, raw, source, at)[0]


def _store_one(session: Session, raw: bytes, source: str, at: datetime) -> tuple[int, Progress]:
    digest = hashlib.sha256(raw).hexdigest()
    known = session.execute(
        select(StoredReport.id, StoredReport.outcome, StoredReport.details).where(
            StoredReport.digest == digest
        )
    ).one_or_none()
    if known is not None:
        return known.id, _progress(known.outcome, known.details)
    stored = StoredReport(
        received_at=at, source=source, digest=digest, raw=raw, kind="", details={},
        outcome=STORED,
    )  # fmt: skip
    session.add(stored)
    session.flush()
    return stored.id, Progress.NEW


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
    with database.transaction() as session:
        session.execute(
            update(StoredReport)
            .where(StoredReport.id == report_id, StoredReport.outcome == STORED)
            .values(details=details)
        )
