"""Runs: which one may send, whether it is alive, and who takes over from a dead one.

An SQLite database has one machine, and the run holds a lock on a file. A connection to PostgreSQL can be
lost without its process noticing, so a lock on the server proves nothing. There, a run proves
by its commits that it is alive: each one confirms the run's row and the time. A run that has not committed
for `SILENT_SECONDS` starts nothing (`Fence`). After `DEAD_SECONDS`, another process may end it and take over
its deliveries. The run may only be cut off, and still know what it sent: it has twice that time to write it
before anybody gets the message again. Only the database's clock and the run's own monotonic clock matter.
Any number of runs may be alive at a time: each delivery is claimed by one of them, and they share their
limits (`mailer.delivery.sharing`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    func,
    insert,
    literal_column,
    select,
    text,
    type_coerce,
    update,
)

from mailer.database.columns import Instant
from mailer.database.tables import WAITS, Delivery, DeliveryState, Run
from mailer.delivery import queue
from mailer.delivery.clock import DEAD_SECONDS
from mailer.delivery.issues import edition_number
from mailer.errors import LockedError, TakenOverError

# A row that processes lock before one of them begins a run.
_TAKE_TURN: Final = text(
    "INSERT INTO instance (name, value) VALUES ('turn', '') ON CONFLICT (name) DO UPDATE SET value = ''"
)
DATABASE_TIME: Final[ColumnElement[datetime]] = literal_column(
    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)", Instant()
)
# While the server was down, no run could confirm that it was alive.
_STARTED_AT: Final[ColumnElement[int]] = literal_column(
    "CAST(extract(epoch FROM pg_postmaster_start_time()) * 1000000 AS bigint)", BigInteger()
)
_SILENT_MICROSECONDS: Final = type_coerce(DATABASE_TIME, BigInteger) - func.greatest(
    type_coerce(Run.c.seen_at, BigInteger), _STARTED_AT, type_=BigInteger()
)
_SILENT: Final = "it was silent for too long, so another process ended it"
_LATE: Final = 2
"""An ended run can still write what it sent for this many times the silence after which it was ended."""
NEVER_SECONDS: Final = 1e9
"""As `dead_seconds`: end only runs whose process is known to be gone."""

_ROW: Final = (Run.c.id, Run.c.issue_id, Run.c.host, Run.c.pid, Run.c.place, Run.c.started_at)


class LiveRun(Struct, frozen=True):
    """A run that has not ended."""

    id: int
    issue_id: int
    host: str
    pid: int
    place: str
    silent_seconds: float
    """How long ago it last committed, by the database's clock, or the server started if that was later.
    Always 0 on SQLite."""
    started_at: datetime

    @property
    def known_dead(self) -> bool:
        """Whether its process ran on this system and is gone."""
        return is_gone(self.place, self.pid)


class Fence:
    """Says whether a run may send: its last commit succeeded, and not too long ago.

    One thread commits while the event loop asks. `ticks` counts seconds on a clock that never goes back
    and goes on while the process is stopped.
    """

    def __init__(self, ticks: Callable[[], float], silent_seconds: float) -> None:
        self._ticks = ticks
        self._silent_seconds = silent_seconds
        self._confirmed_at = ticks()
        self._failing = False
        self._in_touch_since = ticks()
        self.commits = 0
        """How many transactions of the run are known to be committed."""

    def is_open(self) -> bool:
        """Return whether a message may leave now."""
        return not self._failing and self._ticks() - self._confirmed_at <= self._silent_seconds

    def dead_seconds(self, usual: float) -> float:
        """Return the seconds of silence after which this run may consider another one dead.

        After an outage, the others may be about to commit too, so none is judged for a while.
        """
        return usual if self._ticks() - self._in_touch_since >= usual else NEVER_SECONDS

    def close(self) -> None:
        """Let nothing leave until the next commit."""
        self._failing = True

    def confirmed(self, since: float, commits: int) -> None:
        """Note a commit whose transaction began at the tick `since`."""
        if self._failing:
            self._in_touch_since = since
        self._confirmed_at, self.commits, self._failing = since, commits, False


def place() -> str:
    """Return a name for the running kernel and process namespace; empty if there is none.

    Two processes of the same place can see each other's process ids.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def is_gone(where: str, pid: int) -> bool:
    """Return whether a process of a `place` is known to have ended."""
    if not where or where != place():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def begin(connection: Connection, issue_id: int, *, at: datetime) -> int:
    """Record the start of a run of this process, which sends the newest edition; return its id."""
    run = insert(Run).values(
        issue_id=issue_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=place(),
        edition=edition_number(connection, issue_id),
        started_at=at,
        seen_at=DATABASE_TIME if _is_fenced(connection) else None,
    )
    return connection.execute(run.returning(Run.c.id)).scalar_one()


def end(connection: Connection, run_id: int, *, at: datetime, reason: str = "") -> None:
    """Record that a run ended; `reason` says why, if something was left to send."""
    connection.execute(update(Run).where(Run.c.id == run_id).values(ended_at=at, reason=reason))


class LastRun(Struct, frozen=True):
    """The run of an issue that ended last."""

    host: str
    ended_at: datetime
    reason: str
    """Why it ended while something was left to send; empty otherwise."""


def last_ended(connection: Connection, issue_id: int) -> LastRun | None:
    """Return the run of an issue that ended last, or None."""
    ended = (
        select(Run.c.host, Run.c.ended_at, Run.c.reason)
        .where(Run.c.issue_id == issue_id, Run.c.ended_at.is_not(None))
        .order_by(Run.c.ended_at.desc())
        .limit(1)
    )
    found = connection.execute(ended).first()
    if found is None or found.ended_at is None:
        return None
    return LastRun(found.host, found.ended_at, found.reason)


def is_sending(connection: Connection, issue_id: int) -> bool:
    """Return whether any run of an issue is sending."""
    return any(run.issue_id == issue_id for run in sending(connection))


def has_ended(connection: Connection, run_id: int) -> bool:
    """Return whether a run has ended."""
    return connection.scalar(select(Run.c.ended_at).where(Run.c.id == run_id)) is not None


def alive(connection: Connection) -> list[LiveRun]:
    """Return the runs of a PostgreSQL database that have not ended, oldest first."""
    rows = connection.execute(
        select(*_ROW, _SILENT_MICROSECONDS)
        .where(Run.c.ended_at.is_(None), Run.c.seen_at.is_not(None))
        .order_by(Run.c.id)
    )
    return [LiveRun(*row[:5], row[6] / 1_000_000, row[5]) for row in rows]


def sending(connection: Connection, *, dead_seconds: float = DEAD_SECONDS) -> list[LiveRun]:
    """Return the runs that are sending, oldest first, without those known or believed to be dead."""
    if _is_fenced(connection):
        return [run for run in alive(connection) if not run.known_dead and run.silent_seconds < dead_seconds]
    rows = connection.execute(select(*_ROW).where(Run.c.ended_at.is_(None)).order_by(Run.c.id))
    found = [LiveRun(*row[:5], 0.0, row[5]) for row in rows]
    # All runs of an SQLite database are on this machine.
    return [run for run in found if run.place == place() and not run.known_dead]


def recover(
    connection: Connection, issue_id: int, *, at: datetime, dead_seconds: float = DEAD_SECONDS
) -> None:
    """End dead runs and mark their deliveries `uncertain`, before a run of this issue begins.

    On SQLite no other run is alive, since the caller holds the lock.
    """
    if _is_fenced(connection):
        connection.execute(_TAKE_TURN)
        end_dead(connection, at=at, dead_seconds=dead_seconds)
    queue.recover(connection, issue_id, at=at)


def end_dead(connection: Connection, *, at: datetime, dead_seconds: float = DEAD_SECONDS) -> list[LiveRun]:
    """End the dead runs of a PostgreSQL database and recover their deliveries; return those that live."""
    living: list[LiveRun] = []
    for run in alive(connection):
        expired = int(dead_seconds * 1_000_000) <= _SILENT_MICROSECONDS
        if not run.known_dead and run.silent_seconds < dead_seconds:
            living.append(run)
            continue
        # The row is locked by a run that is committing; then the condition is checked again.
        gone = connection.execute(
            update(Run)
            .where(Run.c.id == run.id, Run.c.ended_at.is_(None))
            .where(Run.c.seen_at.is_not(None) if run.known_dead else expired)
            .values(ended_at=at, reason="" if run.known_dead else _SILENT)
            .returning(Run.c.id)
        ).all()
        if gone:
            due_at = at if run.known_dead else at + timedelta(seconds=_LATE * dead_seconds)
            queue.recover(connection, run.issue_id, at=at, run_id=run.id, due_at=due_at)
        elif not has_ended(connection, run.id):
            living.append(run)
    return living


def silent_ones_hold_some(connection: Connection, issue_id: int) -> bool:
    """Return whether a run that was ended because it was silent may still write what it sent."""
    theirs = select(Delivery.c.subscriber_id).where(
        Delivery.c.issue_id == issue_id,
        text(WAITS),
        Delivery.c.state == DeliveryState.UNCERTAIN.value,
        Delivery.c.run_id.in_(select(Run.c.id).where(Run.c.issue_id == issue_id, Run.c.reason == _SILENT)),
    )
    return connection.execute(theirs.limit(1)).first() is not None


def exclude_others(connection: Connection, *, at: datetime, dead_seconds: float = DEAD_SECONDS) -> None:
    """End dead runs; no run begins before this transaction ends.

    Raises `LockedError` if a run is alive. Does nothing on SQLite, where the caller holds the lock.
    """
    if not _is_fenced(connection):
        return
    connection.execute(_TAKE_TURN)
    if living := end_dead(connection, at=at, dead_seconds=dead_seconds):
        raise _refusal(living[0], dead_seconds)


def join(connection: Connection, leader: int) -> None:
    """Check that the run that a worker belongs to has not ended; raise `TakenOverError` if it has."""
    ended = select(Run.c.ended_at).where(Run.c.id == leader).with_for_update(read=True)
    if connection.scalar(ended) is not None:
        raise TakenOverError("the run that started this worker has ended")


# Built once, since it begins every transaction of a run.
_CONFIRM: Final = (
    update(Run)
    .where(
        Run.c.id == bindparam("_run_id"),
        Run.c.ended_at.is_(None),
        Run.c.commits == bindparam("_before", type_=Run.c.commits.type),
    )
    .values(seen_at=DATABASE_TIME, commits=Run.c.commits + 1)
    .returning(func.set_config("idle_in_transaction_session_timeout", bindparam("_timeout"), True))
)


def confirm(connection: Connection, run_id: int, *, commits: int, silent_seconds: float) -> bool:
    """Confirm in a transaction that its run is alive; `commits` is how many came before it.

    The server ends the transaction if its process is silent for `silent_seconds`, so that a process that
    was stopped does not keep its locks.

    Returns False if the run has already committed this transaction: its commit was not answered, so the
    caller has repeated it. Raises `TakenOverError` if another process has ended the run.
    """
    values = {"_run_id": run_id, "_before": commits, "_timeout": f"{silent_seconds * 1000:.0f}"}
    if connection.execute(_CONFIRM, values).first() is not None:
        return True
    row = connection.execute(select(Run.c.commits, Run.c.ended_at).where(Run.c.id == run_id)).one()
    if row.commits == commits + 1:
        return False
    raise TakenOverError(
        "another process has taken over: this run could not reach the database for too long",
        remedy="see how far the issue is with: mailer status",
    )


def _is_fenced(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _refusal(run: LiveRun, dead_seconds: float) -> LockedError:
    seconds = max(1, round(dead_seconds - run.silent_seconds))
    return LockedError(
        f"another run is sending from this database (process {run.pid} on {run.host})",
        remedy="wait for it, or watch it with: mailer status --watch"
        f"; if it was killed, try again in {seconds} seconds",
    )
