"""Store incoming messages, read them and act on their reports.

Messages are stored and applied in batches, because each commit costs a round trip. A message that takes
long to read ends its batch: the ones before it are committed first, so that they can be marked in their
mailbox. If the process dies while reading a message, the next pass skips that message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from mailer.bounces.reading.reader import UNREADABLE, read_report, start_reader
from mailer.bounces.reading.report import BounceReport, ReportKind
from mailer.bounces.record import (
    MAX_RAW_OCTETS,
    Recorded,
    ReportOutcome,
    Rules,
    alert_on_returns,
    apply_mail,
    check_breaker,
    locked,
    recorded,
)
from mailer.bounces.storing import Progress, attempt, store
from mailer.database.engine import Database
from mailer.errors import MailerError
from mailer.tokens import Signer

_PATIENCE_SECONDS: Final = 0.5
"""A message that takes longer to read ends its batch."""
_Read = tuple[int, BounceReport | None]
"""A stored message's number and its report; None if it was acted on before."""


def record(
    database: Database, signer: Signer, raw: bytes, *, source: str, at: datetime, rules: Rules
) -> Recorded:
    """Store a message, then act on it. Once this returns, the message may be deleted where it came from."""
    (done,) = record_batch(database, signer, [raw], source=source, at=at, rules=rules)
    if isinstance(done, Exception):
        raise done
    return done


def record_batch(
    database: Database, signer: Signer, raws: Sequence[bytes], *, source: str, at: datetime, rules: Rules
) -> list[Recorded | Exception]:
    """Store messages and act on them; return the outcome of each, or the error."""
    return list(record_each(database, signer, raws, source=source, at=at, rules=rules))


def record_each(
    database: Database, signer: Signer, raws: Sequence[bytes], *, source: str, at: datetime, rules: Rules
) -> Iterator[Recorded | Exception]:
    """Store messages, act on them, and yield each outcome once it is committed.

    An error with one message is yielded in its place. Raises `MailerError` for what stops all of them,
    such as a full disk.
    """
    raws = [raw[:MAX_RAW_OCTETS] for raw in raws]
    stored = store(database, raws, source=source, at=at)
    start_reader()
    waiting: list[_Read] = []
    with ThreadPoolExecutor(1) as thread:
        for (report_id, progress), raw in zip(stored, raws, strict=True):
            reading: Future[BounceReport] | None = None
            if progress is Progress.DONE:
                waiting.append((report_id, None))
                continue
            if progress is Progress.TRIED:
                waiting.append((report_id, UNREADABLE))
                continue
            if progress is Progress.NEW:
                reading = thread.submit(read_report, raw)
                if wait([reading], _PATIENCE_SECONDS).done:
                    waiting.append((report_id, reading.result()))
                    continue
            yield from _act(database, signer, waiting, at, rules)
            waiting.clear()
            with attempt(database, report_id):
                report = (reading or thread.submit(read_report, raw)).result()
            yield from _act(database, signer, [(report_id, report)], at, rules)
    yield from _act(database, signer, waiting, at, rules)


def _act(
    database: Database, signer: Signer, reports: Sequence[_Read], at: datetime, rules: Rules
) -> list[Recorded | Exception]:
    """Act on reports in one transaction, in which one that fails is rolled back alone."""
    if not reports:
        return []
    done: list[Recorded | Exception] = []
    with database.transaction() as connection:
        for report_id, report in reports:
            try:
                with connection.begin_nested():
                    done.append(_act_on_one(connection, signer, report_id, report, at, rules))
            except MailerError:
                raise
            except Exception as error:
                done.append(error)
        acted_on = [one for one in done if isinstance(one, Recorded)]
        alert_on_returns(connection, acted_on, at, rules)
    check_breaker(database, acted_on, at=at)
    return done


def _act_on_one(
    connection: Connection,
    signer: Signer,
    report_id: int,
    report: BounceReport | None,
    at: datetime,
    rules: Rules,
) -> Recorded:
    stored = locked(connection, report_id)
    # Another process may have given the message up while this one was reading it.
    given_up = stored.kind == ReportKind.UNREADABLE.value
    is_done = stored.outcome != ReportOutcome.STORED.value
    if report is None or (is_done and not (given_up and report.kind is not ReportKind.UNREADABLE)):
        return replace(recorded(stored), duplicate=True)
    return apply_mail(connection, signer, stored, report, at=at, rules=rules)
