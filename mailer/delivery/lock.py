"""One sender at a time, and none on a stale or copied database.

The lock is a file next to an SQLite database, held with `flock`: the kernel releases it when the last
process that inherited it ends, however it ends. The file also records, outside the database, how many
runs the database has seen. A database that has seen fewer is an older copy, and sending from it would
mail an old issue again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from mailer.database.models import Instance
from mailer.database.session import Database
from mailer.errors import LockedError, RefusedError

# PostgreSQL identifies advisory locks by numbers; this is ours ("mailer" in ASCII).
_ADVISORY_LOCK = 0x6D61696C6572
_WORKERS_LOCK = _ADVISORY_LOCK + 1
_REMEDY = "if this database is the right one, run: mailer db adopt"


@contextlib.contextmanager
def sending(database: Database) -> Iterator[int | None]:
    """Hold the lock of a database while sending from it.

    Yields the descriptor of the lock file, which keeps the lock in a process that inherits it, or None if
    the database is not a file.

    Raises `LockedError` if another process holds the lock, and `RefusedError` if the database is a copy
    made elsewhere, or older than one that was sent from here.
    """
    if database.path is None:
        with _advisory(database):
            yield None
        return
    path = _lock_path(database.path)
    with _locked_file(path) as descriptor:
        _check_generation(database, path, descriptor)
        _advance(database, descriptor)
        yield descriptor


@contextlib.contextmanager
def working(database: Database) -> Iterator[None]:
    """Hold a worker's share of the lock, so that no other run begins while it lives.

    Does nothing for a database file: there, workers inherit the lock.
    """
    if database.path is not None:
        yield
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": _WORKERS_LOCK})
        yield
        connection.execute(text("SELECT pg_advisory_unlock_shared(:key)"), {"key": _WORKERS_LOCK})


def adopt(database: Database) -> None:
    """Accept a copied or restored database as the one to send from."""
    if database.path is None:
        return
    with _locked_file(_lock_path(database.path)) as descriptor:
        with database.transaction() as session:
            _put(session, "home", str(database.path.resolve()))
            _put(session, "identity", uuid.uuid4().hex)
        os.ftruncate(descriptor, 0)
        _advance(database, descriptor)


def _lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".sending")


@contextlib.contextmanager
def _locked_file(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                "another run is sending from this database",
                remedy="wait for it, or watch it with: mailer status --watch",
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _advisory(database: Database) -> Iterator[None]:
    """Hold the lock of a PostgreSQL database; the server releases it when our connection ends."""
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not _try_lock(connection, _ADVISORY_LOCK):
            raise LockedError("another run is sending from this database", remedy="wait for it")
        if not _try_lock(connection, _WORKERS_LOCK):
            raise LockedError("workers of an earlier run are still ending", remedy="wait a few seconds")
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _WORKERS_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})


def _try_lock(connection: Connection, key: int) -> bool:
    return bool(connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar())


def _check_generation(database: Database, path: Path, descriptor: int) -> None:
    """Compare the runs that the file has recorded with those that the database has seen."""
    assert database.path is not None
    home = database.instance_value("home")
    here = str(database.path.resolve())
    if home is not None and home != here:
        raise RefusedError(f"this database was used at {home} and is now at {here}", remedy=_REMEDY)
    remembered = os.pread(descriptor, 4096, 0)
    if not remembered:
        return
    try:
        known = json.loads(remembered)
        identity, generation = str(known["identity"]), int(known["generation"])
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{path} is damaged", remedy=_REMEDY) from error
    if identity != database.instance_value("identity"):
        raise RefusedError(f"another database was sent from here before this one ({path})", remedy=_REMEDY)
    if generation > int(database.instance_value("generation") or 0):
        raise RefusedError(
            "this database is older than what was already sent from here: an old copy was restored",
            remedy=_REMEDY,
        )


def _advance(database: Database, descriptor: int) -> None:
    """Count one more run: first in the database, then in the file.

    A crash in between leaves the file one behind the database, which is harmless.
    """
    assert database.path is not None
    with database.transaction() as session:
        stored = session.get(Instance, "generation")
        generation = int(stored.value if stored else 0) + 1
        _put(session, "generation", str(generation))
        if session.get(Instance, "home") is None:
            _put(session, "home", str(database.path.resolve()))
        known = session.get(Instance, "identity")
        identity = known.value if known else uuid.uuid4().hex
        _put(session, "identity", identity)
    content = json.dumps({"identity": identity, "generation": generation}).encode()
    os.pwrite(descriptor, content.ljust(128), 0)
    os.fsync(descriptor)


def _put(session: Session, name: str, value: str) -> None:
    session.merge(Instance(name=name, value=value))
