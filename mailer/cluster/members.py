"""The workers that are running, on all machines."""

from __future__ import annotations

import os
import socket
from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, Connection, delete, insert, select, type_coerce

from mailer.database.tables import Worker
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


def enter(connection: Connection, name: str, *, at: datetime) -> int:
    """Record that a worker of this process has started; return its id."""
    worker = insert(Worker).values(
        name=name,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=runs.place(),
        started_at=at,
        seen_at=DATABASE_TIME if connection.dialect.name == "postgresql" else at,
    )
    return connection.execute(worker.returning(Worker.c.id)).scalar_one()


def confirm(connection: Connection, member_id: int, name: str, *, at: datetime) -> None:
    """Record that a worker of this process is alive, even if declared dead by another. PostgreSQL only."""
    # Imported here: on SQLite nothing else needs the dialect.
    from sqlalchemy.dialects import postgresql

    values = {
        "id": member_id, "name": name, "host": socket.gethostname(), "pid": os.getpid(),
        "place": runs.place(), "started_at": at, "seen_at": DATABASE_TIME,
    }  # fmt: skip
    connection.execute(
        postgresql.insert(Worker)
        .values(values)
        .on_conflict_do_update(index_elements=[Worker.c.id], set_={"seen_at": DATABASE_TIME})
    )


def leave(connection: Connection, member_id: int) -> None:
    """Record that a worker has ended."""
    connection.execute(delete(Worker).where(Worker.c.id == member_id))


def living(connection: Connection, *, dead_seconds: float = DEAD_SECONDS) -> list[Member]:
    """Return the workers that are running, oldest first."""
    return [member for member in _all(connection) if not _is_dead(connection, member, dead_seconds)]


def remove_dead(connection: Connection, *, dead_seconds: float = DEAD_SECONDS) -> list[int]:
    """Forget the workers that died; return their ids."""
    dead = [member.id for member in _all(connection) if _is_dead(connection, member, dead_seconds)]
    if dead:
        connection.execute(delete(Worker).where(Worker.c.id.in_(dead)))
    return dead


def _all(connection: Connection) -> list[Member]:
    row = (Worker.c.id, Worker.c.name, Worker.c.host, Worker.c.pid, Worker.c.place, Worker.c.started_at)
    if connection.dialect.name == "postgresql":
        silent = type_coerce(DATABASE_TIME, BigInteger) - type_coerce(Worker.c.seen_at, BigInteger)
        found = connection.execute(select(*row, silent).order_by(Worker.c.id))
        return [Member(*one[:6], one[6] / 1_000_000) for one in found]
    return [Member(*one, 0.0) for one in connection.execute(select(*row).order_by(Worker.c.id))]


def _is_dead(connection: Connection, member: Member, dead_seconds: float) -> bool:
    if connection.dialect.name == "sqlite" and member.place != runs.place():
        # All workers of an SQLite database are on this machine: this one ran before it started again.
        return True
    return runs.is_gone(member.place, member.pid) or member.silent_seconds >= dead_seconds
