"""The engine, transactions, and the schema version."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Self

import msgspec
from sqlalchemy import (
    URL,
    Compiled,
    Connection,
    Dialect,
    Engine,
    SelectBase,
    Update,
    create_engine,
    event,
    func,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mailer.database import instances
from mailer.database.tables import Instance, every_table
from mailer.database.watcher import Watcher
from mailer.errors import ConfigError, SchemaError, StorageError, UnavailableError, install_command

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
# Read from the file names, because importing Alembic would take longer than most commands do.
HEAD: Final = max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
"""The newest migration."""
# As Alembic makes it.
_VERSION_TABLE: Final = (
    "CREATE TABLE alembic_version"
    " (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
_CREATION_LOCK: Final = 0x6D61696C6572
_BUSY_TIMEOUT_MS = 30_000
# A connection that a router or a firewall dropped in silence is noticed within half a minute.
_POSTGRESQL: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Connection parameters of libpq; the URL may set others."""


class Database:
    """One database: SQLite by default, PostgreSQL beyond one machine.

    `url` is a SQLAlchemy URL; a relative SQLite path starts at `folder`. Close the database when you no
    longer need it, or use it as a context manager: it keeps connections open between transactions.
    """

    def __init__(self, url: str, *, folder: Path = Path()) -> None:
        parsed = _parsed_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.path: Path | None = None
        if self.is_sqlite and parsed.database and parsed.database != ":memory:":
            self.path = folder / parsed.database
            parsed = parsed.set(database=str(self.path))
        self.url = parsed
        self.connect_parameters = {} if self.is_sqlite else _parameters(parsed)
        """The parameters of libpq that the URL does not set; PostgreSQL only."""
        self.engine: Engine = _engine(parsed)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _set_up_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._reading = self.engine.execution_options(
            mailer_reading=True, **({} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"})
        )
        self._watcher: Watcher | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all idle connections; change counters stop working."""
        self.engine.dispose()
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction that may write; commit at the end, roll back on any exception.

        On SQLite it takes the write lock first (BEGIN IMMEDIATE): it may wait for the lock, but never fails
        half-way because of another writer. Storage failures raise `StorageError`.
        """
        with _translated(), self.engine.connect() as connection:
            yield connection
            connection.commit()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a read-only transaction on one snapshot, which blocks no writer."""
        with _translated(), self._reading.connect() as connection:
            yield connection

    def exists(self) -> bool:
        """Return whether the database has any tables."""
        if self.path is not None and not self.path.exists():
            return False
        with _translated():
            return bool(inspect(self.engine).get_table_names())

    def version(self) -> str:
        """Return the migration that the schema is at, or an empty string for a new database."""
        if not self.exists():
            return ""
        with self.reading() as connection:
            return _version(connection)

    def open(self) -> None:
        """Create the tables on first use; raise `SchemaError` if they have another version."""
        found = self.version() or _create_tables(self)
        if found > HEAD:
            raise SchemaError(
                f"the database is at version {found}, made by a newer mailer than this one ({HEAD})",
                remedy="install the newer version",
            )
        if found != HEAD:
            raise SchemaError(
                f"the database is at version {found}, but this mailer needs {HEAD}",
                remedy="bring it up to date with: mailer upgrade",
            )

    def secrets(self) -> list[bytes]:
        """Return the signing secrets, oldest first; create the first one if there is none."""
        stored = self.instance_value("secrets") or self._first_secret()
        return [bytes.fromhex(line) for line in stored.split()]

    def _first_secret(self) -> str:
        try:
            with self.transaction() as connection:
                if (stored := instances.value(connection, "secrets")) is None:
                    stored = secrets.token_hex(32)
                    connection.execute(insert(Instance).values(name="secrets", value=stored))
                return stored
        except IntegrityError:
            # On PostgreSQL, another process may have created it at the same moment; use that one.
            with self.reading() as connection:
                return connection.scalars(select(Instance.c.value).where(Instance.c.name == "secrets")).one()

    def check(self) -> list[str]:
        """Return damage to the file and broken foreign keys; an empty list means none."""
        if not self.is_sqlite:
            return []
        with self.reading() as connection:
            findings = [
                str(row[0]) for row in connection.execute(text("PRAGMA integrity_check")) if row[0] != "ok"
            ]
            for row in connection.execute(text("PRAGMA foreign_key_check")):
                findings.append(f"{row[0]}: row {row[1]} refers to a missing row of {row[2]}")
        return findings

    def check_writable(self) -> None:
        """Raise `StorageError` if the database cannot be written."""
        with self.transaction() as connection:
            connection.execute(update(Instance).where(Instance.c.name == "").values(value=""))

    def backup(self, target: Path) -> None:
        """Write a consistent copy of an SQLite database, even while it is in use."""
        if self.path is None:
            raise StorageError("only SQLite databases are backed up here", remedy="use pg_dump")
        # SQLite accepts an empty file as the target, so the file is private before the first byte is written.
        try:
            target.touch(mode=0o600, exist_ok=False)
        except FileExistsError as error:
            raise StorageError(f"{target} already exists", remedy="name another file") from error
        except OSError as error:
            raise StorageError(f"{target}: {error.strerror}", remedy="check the folder") from error
        # Needs its own connection: VACUUM cannot run in a transaction.
        try:
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                connection.execute("VACUUM INTO ?", (str(target),))
        except sqlite3.Error as error:
            target.unlink(missing_ok=True)
            raise StorageError(f"{target}: {error}", remedy="check the folder and the disk") from error

    def change_counter(self) -> Callable[[], int]:
        """Return a function whose result changes whenever anyone commits to the database.

        On SQLite it reads `PRAGMA data_version` on a connection that never writes, which takes a few
        microseconds. PostgreSQL has nothing as cheap; there the number changes twice a second.
        """
        if self.path is None:
            return lambda: int(time.monotonic() * 2)
        return self._watching(self.path).commits

    def look(self, statement: SelectBase, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows that a statement finds in the newest commit to an SQLite file.

        `values` are its parameters as SQLite stores them. Much faster than `reading`, for questions
        that a run asks all the time.
        """
        assert self.path is not None
        with _translated():
            return self._watching(self.path).rows(statement, values)

    def _watching(self, path: Path) -> Watcher:
        if self._watcher is None:
            self._watcher = Watcher(path)
        return self._watcher

    def instance_value(self, name: str) -> str | None:
        """Return a value that the installation stores about itself, or None."""
        with self.reading() as connection:
            return instances.value(connection, name)


def _parsed_url(url: str) -> URL:
    """Parse a database URL; raise `ConfigError`, which never quotes it: it may contain a password."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(
            "'paths.database' is not a database URL that mailer knows",
            remedy="write sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
        )
    return parsed.set(drivername="postgresql+psycopg") if backend == "postgresql" else parsed


def _parameters(url: URL) -> dict[str, int | str]:
    process = f"mailer {os.getpid()} on {socket.gethostname()}"
    # The server cuts longer names, and warns.
    name = process.encode()[:63].decode("utf-8", "ignore")
    known: dict[str, int | str] = {**_POSTGRESQL, "application_name": name}
    return {name: value for name, value in known.items() if name not in url.query}


def _engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        return create_engine(
            url,
            connect_args={} if is_sqlite else _parameters(url),
            json_deserializer=_parsed,
            # Statement parameters are personal data; keep them out of errors.
            hide_parameters=True,
            # A restarted PostgreSQL leaves dead connections in the pool; a ping replaces them before use.
            pool_pre_ping=not is_sqlite,
        )
    except ImportError as error:
        raise ConfigError(
            "the PostgreSQL driver is not installed", remedy=f"install it with: {install_command('cluster')}"
        ) from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError("'paths.database' cannot be used", remedy="see docs/how/database.md") from error


def _version(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none() or ""


def _create_tables(database: Database) -> str:
    """Create the newest schema in an empty database, much sooner than the migrations would.

    Returns its version: another process may have been first.
    """
    _create_file(database)
    with _translated(), database.engine.begin() as connection:
        if not database.is_sqlite:
            # SQLite lets only one process begin.
            connection.execute(select(func.pg_advisory_xact_lock(_CREATION_LOCK)))
        if found := _version(connection):
            return found
        if inspect(connection).get_table_names():
            raise SchemaError(
                f"{database.url.render_as_string()} contains tables of another program",
                remedy="name another database in config.toml ([paths] database)",
            )
        every_table().create_all(connection)
        connection.execute(text(_VERSION_TABLE))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return HEAD


def _create_file(database: Database) -> None:
    if database.path is not None and not database.path.exists():
        # Addresses are personal data: only the operator's account may read them.
        with _translated():
            database.path.touch(mode=0o600)


def upgrade(database: Database, version: str = "head") -> None:
    """Migrate the schema to the newest version (or another); create the database file if it is missing."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    _create_file(database)
    with _translated(), database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)


def execute_many(
    connection: Connection, statement: Update, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> int:
    """Execute a statement once per row of stored values; return how many rows changed.

    `names` lists all parameters of the statement in row order. The rows bypass SQLAlchemy, which would
    spend more time on each than the database does.
    """
    compiled = _compiled(statement, connection.dialect)
    if (order := compiled.positiontup) is None:  # type: ignore[attr-defined]
        parameters: list[Any] = [dict(zip(names, row, strict=True)) for row in rows]
    else:
        arranged = itemgetter(*(names.index(name) for name in order))
        parameters = [arranged(row) for row in rows]
    return connection.exec_driver_sql(str(compiled), parameters).rowcount


@cache
def _compiled(statement: Update, dialect: Dialect) -> Compiled:
    return statement.compile(dialect=dialect)


def _parsed(text: str) -> Any:
    # Called for each of the hundreds of subscribers in a window.
    try:
        return _read_json(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        # Only Python's json reads lone surrogates, and it also writes them.
        return json.loads(text)


_read_json: Final = msgspec.json.Decoder().decode


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise `StorageError` for the driver's errors, except `IntegrityError`, which callers expect."""
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeoutError as error:
        raise UnavailableError("all connections to the database are in use") from error
    except DBAPIError as error:
        raise _translation(error) from error
    except sqlite3.Error as error:
        raise _sqlite_translation(error) from error
    except OSError as error:
        raise StorageError(
            f"{error.filename}: {error.strerror}", remedy="check the folder and the disk"
        ) from error


def _translation(error: DBAPIError) -> StorageError:
    said = " ".join(str(error.orig).split())
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_translation(error.orig)
    if isinstance(error, DataError | ProgrammingError):
        # Trying again would not help: a value or a statement is wrong, or a right or a table is missing.
        return StorageError(
            f"the database refused a statement: {said}", remedy="check the database with: mailer db check"
        )
    return UnavailableError(f"the database cannot be used: {said}", remedy="check the database server")


_WRITABLE: Final = "make the file and its folder writable for this account, or check [paths] database"


def _sqlite_translation(error: sqlite3.Error) -> StorageError:
    said = " ".join(str(error).split())
    if "malformed" in said or "not a database" in said:
        return StorageError(f"the database file is damaged ({said})", remedy="restore a backup")
    if not isinstance(error, sqlite3.OperationalError):
        return StorageError(
            f"the database refused a statement: {said}", remedy="check the database with: mailer db check"
        )
    if "full" in said:
        return StorageError(
            "the disk is full; the last step was not saved, but everything before it was",
            remedy="free some space, then run the command again",
        )
    if "disk I/O" in said:
        return StorageError(
            "writing to the disk failed (is it full?); the last step was not saved, all before it was",
            remedy="free some space and check the disk, then run the command again",
        )
    if "locked" in said:
        return StorageError(
            "the database is locked: another program has held it for more than 30 seconds",
            remedy="wait until it has ended, then run the command again",
        )
    if "readonly" in said:
        return StorageError("this account may only read the database", remedy=_WRITABLE)
    if "unable to open" in said:
        return StorageError("the database file cannot be opened for writing", remedy=_WRITABLE)
    return StorageError(f"the database refused: {said}")


def _set_up_sqlite(connection: Any, record: object) -> None:
    # We issue BEGIN ourselves: the sqlite3 module would begin late and without IMMEDIATE.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit is on disk when it returns. With NORMAL, a power cut could undo the claim of a window
    # that was already sent, and it would be sent again.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    reading = connection.get_execution_options().get("mailer_reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
