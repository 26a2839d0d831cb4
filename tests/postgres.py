"""A PostgreSQL server of the tests' own: Debian's, on a free port, its files thrown away afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Literal, LiteralString

import psycopg

from mailer.database.engine import Database
from tests.ports import free_port
from tests.programs import program

# The views of information_schema would take several times as long.
_DESCRIPTION = """
SELECT md5(string_agg(line, ';' ORDER BY line)) FROM (
    SELECT concat_ws(' ', relname, attnum, attname, atttypid, atttypmod, attnotnull,
        pg_get_expr(adbin, adrelid)) AS line
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND attnum > 0
    UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
    UNION ALL SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
) AS described
"""
# Quicker than TRUNCATE, which gives every table and index new files. Foreign keys are not checked.
_EMPTIED = """
DO $$ DECLARE name text; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = current_schema() AND tablename <> 'alembic_version'
    LOOP EXECUTE format('DELETE FROM %I', name); END LOOP;
    PERFORM setval(pg_class.oid, 1, false) FROM pg_class
        WHERE relkind = 'S' AND relnamespace = current_schema()::regnamespace;
END $$
"""
_SETTINGS = {"fsync": "off", "unix_socket_directories": "''", "listen_addresses": "127.0.0.1"}


class Server:
    """A running server; every test gets a schema of its own, which is made faster than a database."""

    def __init__(self, port: int, control: Callable[..., None]) -> None:
        self.port = port
        self._control = control
        self._numbers = count(1)
        self._free: list[tuple[str, psycopg.Connection]] = []
        self._tables = ""

    def new_database(self) -> str:
        """Create an empty schema and return its SQLAlchemy URL, which behaves like a separate database."""
        name = f"test{next(self._numbers)}"
        with self.connection() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://{self._address}?options=-csearch_path%3D{name}"

    @contextmanager
    def lent_database(self) -> Iterator[str]:
        """Lend a database with all tables and no rows; empty it afterwards for the next test.

        One whose tables a test has changed, or still locks, is not lent again, nor is one whose session a
        test has ended.
        """
        if self._free:
            lent = self._free.pop()
        else:
            url = self.new_database()
            with Database(url) as made:
                made.open()
            # Kept open: a new session would read the descriptions of all tables first.
            lent = url, self._connection(url)
            self._tables = self._tables or _described(lent[1])
        url, connection = lent
        yield url
        with suppress(psycopg.OperationalError):
            if _described(connection) == self._tables:
                connection.execute(_EMPTIED)
                self._free.append(lent)
                return
        connection.close()

    def close(self) -> None:
        """Close the connections to databases that are not lent."""
        while self._free:
            self._free.pop()[1].close()

    def _connection(self, url: str) -> psycopg.Connection:
        plain = url.replace("postgresql+psycopg", "postgresql")
        connection = psycopg.connect(plain, autocommit=True)
        connection.execute("SET lock_timeout = '2s'; SET statement_timeout = '30s'")
        return connection

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """Restart the server: `fast` ends all sessions, `immediate` is like a crash."""
        self._control("-m", mode, "restart")

    def connection(self) -> psycopg.Connection:
        """Connect as the administrator; every statement is committed at once."""
        return psycopg.connect(self.dsn, autocommit=True)

    @property
    def dsn(self) -> str:
        """The address of the whole server, for psycopg."""
        return f"postgresql://{self._address}"

    @property
    def _address(self) -> str:
        return f"postgres@127.0.0.1:{self.port}/postgres"


def _described(connection: psycopg.Connection) -> str:
    """Return a digest of the columns, constraints and triggers of a database."""
    return str(connection.execute(_DESCRIPTION).fetchone())


@contextmanager
def running(*, fsync: bool = False) -> Iterator[Server]:
    """Run a server; skip the test (or fail it under CI) where PostgreSQL is not installed.

    Without `fsync`, commits do not wait for the disk.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = program("initdb", *(str(folder / "initdb") for folder in binaries))
    # PostgreSQL refuses to run as root.
    root = os.geteuid() == 0
    owner = pwd.getpwnam("postgres").pw_uid if root else os.geteuid()
    folder = Path(tempfile.mkdtemp(prefix="mailer-postgres-"))
    shutil.chown(folder, owner)
    data, ctl = folder / "data", str(Path(initdb).with_name("pg_ctl"))

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, cwd=folder, user=owner if root else None
        )

    port = free_port()
    settings = {**_SETTINGS, "port": port, "fsync": "on" if fsync else "off"}
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    try:
        run(initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")

        def control(*command: str) -> None:
            run(ctl, "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, *command)

        control("start")
        with closing(Server(port, control)) as server:
            try:
                yield server
            finally:
                control("-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@contextmanager
def configured(server: Server, setting: LiteralString) -> Iterator[None]:
    """Run a server with another setting for the duration of the block."""
    with server.connection() as connection:
        connection.execute("SET idle_session_timeout = 0")
        connection.execute("ALTER SYSTEM SET " + setting)
        connection.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET ALL")
            connection.execute("SELECT pg_reload_conf()")
