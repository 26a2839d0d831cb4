"""Who may send: on SQLite one command at a time, and nobody from a stale or copied database.

On SQLite the lock is a file next to the database, held with `flock`: the kernel releases it when the last
process that inherited it ends, however it ends. The file also records, outside the database, how many
runs the database has seen. A database that has seen fewer is an older copy, and sending from it would
mail an old issue again.

On PostgreSQL a run proves by its commits that it is alive (`mailer.delivery.runs`). A copy is known by its
server: a restored dump has another system identifier or database, a restored backup or a standby that
took over is on another timeline.
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

from mailer.database import instances
from mailer.database.engine import Database
from mailer.delivery import runs
from mailer.delivery.clock import now
from mailer.errors import LockedError, RefusedError

_SERVER = text(
    "SELECT system_identifier AS system, timeline_id AS timeline,"
    " (SELECT oid FROM pg_database WHERE datname = current_database()) AS database"
    " FROM pg_control_system(), pg_control_checkpoint()"
)
_REMEMBER_HOME = text(
    "INSERT INTO instance (name, value) VALUES ('home', :home) ON CONFLICT (name) DO NOTHING"
)
_REMEDY = "if this database is the right one, run: mailer db adopt"


@contextlib.contextmanager
def sending(database: Database) -> Iterator[int | None]:
    """Hold the lock of an SQLite database while sending from it; check whether a PostgreSQL one is a copy.

    Yields the descriptor of the lock file, which keeps the lock in a process that inherits it, or None if
    the database is not a file: then the run that begins excludes others.

    Raises `LockedError` if another process holds the lock, and `RefusedError` if the database is a copy
    made elsewhere, or older than one that was sent from here.
    """
    if database.path is None:
        check(database)
        yield None
        return
    path = _lock_path(database.path)
    with _locked_file(path) as descriptor:
        with database.transaction() as connection:
            remember_home(connection)
        _check_generation(database, path, descriptor)
        _advance(database, descriptor)
        yield descriptor


@contextlib.contextmanager
def exclusive(database: Database) -> Iterator[Connection]:
    """Begin a transaction during which no run is alive and none begins; raise the errors of `sending`."""
    with sending(database), database.transaction() as connection:
        runs.exclude_others(connection, at=now())
        yield connection


@contextlib.contextmanager
def not_sending(database: Database) -> Iterator[None]:
    """Keep runs from beginning on an SQLite database of any version; raise `LockedError` if one is alive."""
    if database.path is None:
        yield
        return
    with _locked_file(_lock_path(database.path)):
        yield


def check(database: Database) -> None:
    """Raise the `RefusedError` of `sending`, without waiting for a run that holds the lock."""
    with database.transaction() as connection:
        remember_home(connection)
    if database.path is not None:
        path = _lock_path(database.path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _check_generation(database, path, descriptor)
        finally:
            os.close(descriptor)


def remember_home(connection: Connection) -> None:
    """Remember where the database is, if it was never sent from; raise `RefusedError` if it is elsewhere.

    Scheduling an issue needs this: if the database were copied before anything was sent, both copies would
    send the issue.
    """
    here = _place(connection)
    if here is None:
        return
    # Two processes may come here at the same moment.
    connection.execute(_REMEMBER_HOME, {"home": here})
    home = instances.value(connection, "home")
    if home == here:
        return
    if connection.dialect.name == "sqlite":
        raise RefusedError(f"this database was used at {home} and is now at {here}", remedy=_REMEDY)
    raise RefusedError(
        "this PostgreSQL database is a copy, was restored from a backup, or is on a standby that took"
        f" over: it was {home} and is {here}",
        remedy=_REMEDY,
    )


def adopt(database: Database) -> None:
    """Accept a copied or restored database as the one to send from."""
    if database.path is None:
        with database.transaction() as connection:
            instances.set_value(connection, "home", _server(connection))
        return
    with _locked_file(_lock_path(database.path)) as descriptor:
        with database.transaction() as connection:
            instances.set_value(connection, "home", str(database.path.resolve()))
            instances.set_value(connection, "identity", uuid.uuid4().hex)
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


def _place(connection: Connection) -> str | None:
    """Return an identity that a database does not share with its copies; None for one in memory."""
    if connection.dialect.name == "postgresql":
        return _server(connection)
    file = connection.engine.url.database
    return None if file in (None, "", ":memory:") else str(Path(file).resolve())


def _server(connection: Connection) -> str:
    """Return an identity that a PostgreSQL database does not share with its copies."""
    row = connection.execute(_SERVER).one()
    return f"database {row.database} of system {row.system}, timeline {row.timeline}"


def _check_generation(database: Database, path: Path, descriptor: int) -> None:
    """Compare the runs that the file has recorded with those that the database has seen."""
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
    with database.transaction() as connection:
        generation = int(instances.value(connection, "generation") or 0) + 1
        instances.set_value(connection, "generation", str(generation))
        if (identity := instances.value(connection, "identity")) is None:
            identity = uuid.uuid4().hex
            instances.set_value(connection, "identity", identity)
    content = json.dumps({"identity": identity, "generation": generation}).encode()
    os.pwrite(descriptor, content.ljust(128), 0)
    os.fsync(descriptor)
