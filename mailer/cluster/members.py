"""The workers that are running, on all machines."""

from __future__ import annotations

import os
import socket
from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, delete, select, type_coerce, update
from sqlalchemy.orm import Session

from mailer.database.models import Worker
from mailer.delivery import runs
from mailer.delivery.clock import DEAD_SECONDS
from mailer.delivery.runs import DATABASE_TIME


class Member(Struct, frozen=True):
    """A worker that is running."""

    id: int
    name: str
    host: str
    pid: int
    place: str
    started_at: datetime
    silent_seconds: float
    """How long ago it last reached the database, by the database's clock. Always 0 on SQLite."""


def enter(session: Session, name: str, *, at: datetime) -> int:
    """Record that a worker of this process has started; return its id."""
    worker = Worker(
        name=name, host=socket.gethostname(), pid=os.getpid(), place=runs.place(), started_at=at, seen_at=at
    )
    session.add(worker)
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(update(Worker).where(Worker.id == worker.id).values(seen_at=DATABASE_TIME))
    return worker.id


def confirm(session: Session, member_id: int, name: str, *, at: datetime) -> None:
    """Record that a worker of this process is alive, even if declared dead by another. PostgreSQL only."""
    # Imported here: on SQLite nothing else needs the dialect.
    from sqlalchemy.dialects.postgresql import insert

    values = {
        "id": member_id, "name": name, "host": socket.gethostname(), "pid": os.getpid(),
        "place": runs.place(), "started_at": at, "seen_at": DATABASE_TIME,
    }  # fmt: skip
    session.execute(
        insert(Worker)
        .values(values)
        .on_conflict_do_update(index_elements=[Worker.id], set_={"seen_at": DATABASE_TIME})
    )


def leave(session: Session, member_id: int) -> None:
    """Record that a worker has ended."""
    session.execute(delete(Worker).where(Worker.id == member_id))


def living(session: Session, *, dead_seconds: float = DEAD_SECONDS) -> list[Member]:
    """Return the workers that are running, oldest first."""
    return [member for member in _all(session) if not _is_dead(session, member, dead_seconds)]


def remove_dead(session: Session, *, dead_seconds: float = DEAD_SECONDS) -> list[int]:
    """Forget the workers that died; return their ids."""
    dead = [member.id for member in _all(session) if _is_dead(session, member, dead_seconds)]
    if dead:
        session.execute(delete(Worker).where(Worker.id.in_(dead)))
    return dead


def _all(session: Session) -> list[Member]:
    row = (Worker.id, Worker.name, Worker.host, Worker.pid, Worker.place, Worker.started_at)
    if session.get_bind().dialect.name == "postgresql":
        silent = type_coerce(DATABASE_TIME, BigInteger) - type_coerce(Worker.seen_at, BigInteger)
        found = session.execute(select(*row, silent).order_by(Worker.id))
        return [Member(*one[:6], one[6] / 1_000_000) for one in found]
    return [Member(*one, 0.0) for one in session.execute(select(*row).order_by(Worker.id))]


def _is_dead(session: Session, member: Member, dead_seconds: float) -> bool:
    if session.get_bind().dialect.name == "sqlite" and member.place != runs.place():
        # All workers of an SQLite database are on this machine: this one ran before it started again.
        return True
    return runs.is_gone(member.place, member.pid) or member.silent_seconds >= dead_seconds
