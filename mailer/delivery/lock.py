"""One sender at a time, and none on a stale or copied database.

The lock is a file beside an SQLite database, held by `flock`: the kernel lets go of it when the last
process that inherited it ends, however it ends. The file also remembers, outside the database, how
far the database had come. A database that knows less is an older copy, and sending from it would
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

# PostgreSQL's advisory locks are numbers; this one is ours ("mailer" in ASCII).
_ADVISORY_LOCK = 0x6D61696C6572
_WORKERS_LOCK = _ADVISORY_LOCK + 1
_REMEDY = "if this database is the right one, run: mailer db adopt"


@contextlib.contextmanager
def sending(database: Database) -> Iterator[int | None]:
    """Hold the lock of a database while something is sent from it.

    Gives the descriptor of the lock file, which keeps the lock for a process that inherits it; None
    for a database that is not a file.

    Raises `LockedError` when another process holds it, and `RefusedError` when the database is a copy
    made elsewhere or older than what was sent from here.
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
    """Hold a worker's part of the lock, so that no other run begins while it lives.

    Beside a database file a worker has inherited the lock and this does nothing.
    """
    if database.path is not None:
        yield
        return
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": _WORKERS_LOCK})
        yield
        connection.execute(text("SELECT pg_advisory_unlock_shared(:key)"), {"key": _WORKERS_LOCK})


def adopt(database: Database) -> None:
    """Make a copied or restored database the one that is sent from here, by the operator's word."""
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
                remedy="wait for it, or look at it with: mailer status --watch",
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _advisory(database: Database) -> Iterator[None]:
    """Hold the lock of a PostgreSQL database; the server lets go of it when our connection ends."""
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
    """Compare what the file remembers with what the database knows."""
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
    """Count one run more: first in the database, then in the file.

    A crash between the two leaves the file behind the database, which is harmless.
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
