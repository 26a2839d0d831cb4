"""The schema, its migrations, and what a transaction promises."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, bindparam, column, insert, inspect, select, table, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from mailer.database import engine, instances
from mailer.database.engine import HEAD, Database, upgrade
from mailer.database.tables import Instance, StoredEdition, every_table
from mailer.errors import ConfigError, SchemaError, StorageError, UnavailableError
from tests.postgres import Server


def test_first_use_makes_the_newest_schema_readable_by_the_owner_alone(tmp_path: Path) -> None:
    with Database("sqlite:///subscribers.db", folder=tmp_path) as database:
        assert database.path is not None
        assert database.version() == ""
        database.open()
        assert database.version() == HEAD
        assert stat.S_IMODE(database.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_new_schema_is_exactly_what_the_migrations_make(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    urls = ["sqlite:///new.db", "sqlite:///migrated.db"]
    if backend == "postgresql":
        server = request.getfixturevalue("postgresql")
        urls = [server.new_database(), server.new_database()]
    new, migrated = (Database(url, folder=tmp_path) for url in urls)
    with new, migrated:
        new.open()
        upgrade(migrated)
        assert described(migrated) == described(new)
        assert described(new)["deliveries"]
        with migrated.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), every_table()) == []


def described(database: Database) -> dict[str, list[str]]:
    """Return what each table consists of, whatever the order in which it was made."""
    found = inspect(database.engine)
    return {
        table: sorted(
            map(
                plain,
                [
                    *found.get_columns(table),
                    found.get_pk_constraint(table),
                    *found.get_foreign_keys(table),
                    *found.get_unique_constraints(table),
                    *found.get_check_constraints(table),
                    *found.get_indexes(table),
                    found.get_table_options(table),
                ],
            )
        )
        for table in found.get_table_names()
    }


def plain(part: Mapping[str, Any]) -> str:
    """Return a description that can be compared: a clause is equal to itself alone."""
    return str({key: plain(value) if isinstance(value, dict) else str(value) for key, value in part.items()})


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_schema_is_made_once_although_several_begin(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    url = "sqlite:///one.db"
    if backend == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()

    def begin(_: int) -> str:
        with Database(url, folder=tmp_path) as database:
            database.open()
            return database.version()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(begin, range(8))) == [HEAD] * 8


def test_head_is_the_newest_migration() -> None:
    folder = Path(engine.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


def test_first_and_last_schema_are_brought_up_with_what_they_hold(tmp_path: Path) -> None:
    """The schemas between them are upgraded in tests/delivery/test_upgrading.py."""
    script = ScriptDirectory(str(Path(engine.__file__).parent / "migrations"))
    _, last, *_, first = (one.revision for one in script.walk_revisions())
    for older in (first, last):
        database = Database(f"sqlite:///{older}.db", folder=tmp_path)
        upgrade(database, older)
        assert database.version() == older
        with database.transaction() as connection:
            connection.execute(insert(Instance).values(name="kept", value=older))
        with pytest.raises(SchemaError, match="with: mailer upgrade"):
            database.open()
        upgrade(database)
        database.open()
        assert database.instance_value("kept") == older
        with database.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), every_table()) == []
        database.close()


def test_old_schema_is_refused_with_the_upgrade_command(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaError, match="with: mailer upgrade"):
        database.open()


def test_newer_schema_is_refused(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer"):
        database.open()


def test_foreign_database_is_left_alone(tmp_path: Path) -> None:
    with Database("sqlite:///other.db", folder=tmp_path) as database:
        with database.transaction() as connection:
            connection.execute(text("CREATE TABLE somebody (id INTEGER)"))
        with pytest.raises(SchemaError, match="another program"):
            database.open()


def test_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute(insert(Instance).values(name="a", value="b"))
        raise RuntimeError
    assert database.instance_value("a") is None


def test_rows_can_be_read_after_the_transaction_that_loaded_them(database: Database) -> None:
    with database.transaction() as connection:
        written = connection.execute(insert(Instance).values(name="a", value="1").returning(Instance)).one()
    with database.reading() as connection:
        read = connection.execute(select(Instance)).one()
    assert (written.value, read.value) == ("1", "1")


def test_commits_are_durable_and_keys_enforced(database: Database) -> None:
    with database.reading() as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "temp_store")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "temp_store": 2,
    }


def test_instants_come_back_exactly(database: Database) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with database.transaction() as connection:
        connection.execute(insert(StoredEdition).values(digest="d", content="", created_at=at))
    with database.reading() as connection:
        assert connection.scalar(select(StoredEdition.c.created_at)) == at


def test_values_of_the_installation_are_found_by_name(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance), [{"name": name, "value": name.upper()} for name in ("a", "b")])
    assert [database.instance_value(name) for name in ("a", "b", "c")] == ["A", "B", None]


def test_secrets_are_made_once(database: Database) -> None:
    first = database.secrets()
    assert first == database.secrets()
    assert len(first[0]) == 32


def test_damaged_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "subscribers.db").write_bytes(b"this is no database" * 100)
    with (
        pytest.raises(StorageError, match="damaged"),
        Database("sqlite:///subscribers.db", folder=tmp_path) as database,
    ):
        database.open()


def test_row_that_refers_to_a_missing_one_is_reported(database: Database) -> None:
    assert database.check() == []
    assert database.path is not None
    with contextlib.closing(sqlite3.connect(database.path)) as connection:
        connection.execute(
            "INSERT INTO consents (id, subscriber_id, at, after, way) VALUES (7, 9, 0, '', '')"
        )
        connection.commit()
    assert database.check() == ["consents: row 7 refers to a missing row of subscribers"]


def test_backup_holds_what_was_committed(database: Database, tmp_path: Path) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="a", value="b"))
    database.backup(tmp_path / "copy.db")
    with Database("sqlite:///copy.db", folder=tmp_path) as copy:
        assert copy.instance_value("a") == "b"
    before = (tmp_path / "copy.db").read_bytes()
    with pytest.raises(StorageError, match="exists"):
        database.backup(tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_bytes() == before


def test_backup_is_private_from_its_first_byte(database: Database, tmp_path: Path) -> None:
    with database.transaction() as connection:
        connection.execute(
            insert(StoredEdition).values(digest="d", content="x" * 20_000_000, created_at=datetime.now(UTC))
        )
    target, done = tmp_path / "copy.db", threading.Event()
    seen: set[tuple[int, bool]] = set()

    def watch() -> None:
        while not done.is_set():
            with contextlib.suppress(FileNotFoundError):
                found = target.stat()
                seen.add((stat.S_IMODE(found.st_mode), found.st_size < 20_000_000))

    watcher = threading.Thread(target=watch)
    before = os.umask(0)
    try:
        watcher.start()
        database.backup(target)
    finally:
        done.set()
        watcher.join()
        os.umask(before)
    assert {mode for mode, _ in seen} == {0o600}
    # It was looked at while it was being written; otherwise the test would have shown nothing.
    assert (0o600, True) in seen


def test_failed_backup_leaves_no_file(database: Database, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere/copy\.db: No such file") as raised:
        database.backup(tmp_path / "nowhere" / "copy.db")
    assert raised.value.remedy == "check the folder"
    assert database.path is not None
    database.close()
    database.path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError):
        database.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_writers_queue_from_the_start_of_a_transaction(database: Database) -> None:
    def read(connection: Connection) -> int:
        return int(instances.value(connection, "number") or "")

    def increment() -> None:
        with database.transaction() as connection:
            instances.set_value(connection, "number", str(read(connection) + 1))

    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="number", value="0"))
    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as connection:
            number = read(connection)
            other = pool.submit(increment)
            # The other one may not even read what this one is about to change.
            with pytest.raises(TimeoutError):
                other.result(0.3)
            instances.set_value(connection, "number", str(number + 1))
        other.result(30)
    assert database.instance_value("number") == "2"


def test_readers_do_not_wait_for_writers(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="a", value="b"))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(database.instance_value, "a").result(10) is None


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://ana:hunter2@db/news", "postgresql+psycopg://a:hunter2@:x/y", ""]
)
def test_url_of_no_known_database_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


def test_errors_never_contain_statement_parameters(database: Database) -> None:
    with pytest.raises(IntegrityError) as caught, database.transaction() as connection:
        for _ in range(2):
            connection.execute(insert(Instance), {"name": "a", "value": "ana@example.org"})
    assert "ana@example.org" not in str(caught.value)


def test_counter_differs_after_each_commit_of_anybody(database: Database) -> None:
    counter = database.change_counter()
    seen = [counter(), counter()]
    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="a", value="b"))
    seen.append(counter())
    assert seen[0] == seen[1] != seen[2]


def test_look_finds_what_was_committed_last(database: Database) -> None:
    value = select(Instance.c.value).where(Instance.c.name == bindparam("name"))
    counter, found = database.change_counter(), []
    for expected in ("a", "b"):
        with database.transaction() as connection:
            instances.set_value(connection, "x", expected)
            found.append(database.look(value, {"name": "x"}))
        before = counter()
        found.append(database.look(value, {"name": "x"}))
        assert counter() == before
    assert found == [[], [("a",)], [("a",)], [("b",)]]


def test_look_says_in_words_what_is_wrong(database: Database) -> None:
    with pytest.raises(StorageError, match="no such table: absent"):
        database.look(select(table("absent", column("name"))), {})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), "the database file is damaged"),
        (sqlite3.DatabaseError("file is not a database"), "the database file is damaged"),
        (sqlite3.ProgrammingError("a value is missing, the disk is full"), "refused a statement"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full; .*; free some space"),
        (sqlite3.OperationalError("disk I/O error"), "writing to the disk failed .*; free some space"),
        (sqlite3.OperationalError("database is locked"), "the database is locked: .*; wait until"),
        (
            sqlite3.OperationalError("attempt to write a readonly database"),
            "may only read the database; make the file",
        ),
        (sqlite3.OperationalError("unable to open database file"), "cannot be opened for writing; make the"),
        (sqlite3.OperationalError("no such table: issues"), "refused: no such table: issues"),
    ],
)
def test_errors_of_sqlite_are_said_in_words(database: Database, error: Exception, expected: str) -> None:
    with pytest.raises(StorageError, match=expected), database.transaction() as connection:
        connection.execute(text("SELECT 1"))
        raise DBAPIError.instance("SELECT 1", None, error, sqlite3.Error)


def test_exhausted_pool_is_unavailable_for_now(database: Database) -> None:
    with pytest.raises(UnavailableError, match="all connections"), database.transaction():
        raise PoolTimeoutError("QueuePool limit of size 5 overflow 10 reached")


def test_dead_server_is_noticed_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "x" * 80)
    with Database("postgresql://ana@127.0.0.1/news?keepalives_count=9") as database:
        parameters = database.connect_parameters
        name = parameters.pop("application_name")
        assert parameters == {
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "tcp_user_timeout": 20_000,
        }
        assert len(str(name)) == 63
        assert database.engine.pool._pre_ping
    with Database("postgresql://ana@127.0.0.1/news") as database:
        assert database.connect_parameters["keepalives_count"] == 3


def test_driver_that_is_missing_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="driver is not installed") as caught:
        Database("postgresql://ana@127.0.0.1/news")
    assert "cluster" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///news.db", "folder/news.db"),
        ("sqlite:////srv/news.db", "/srv/news.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("postgresql://ana@127.0.0.1/news", None),
    ],
)
def test_path_is_that_of_a_file(url: str, path: str | None) -> None:
    with Database(url, folder=Path("folder")) as database:
        assert database.path == (path if path is None else Path(path))
        assert database.is_sqlite is url.startswith("sqlite")
        assert database.engine.pool._pre_ping is not database.is_sqlite
        if not database.is_sqlite:
            assert (database.url.drivername, database.url.database) == ("postgresql+psycopg", "news")
        assert bool(database.connect_parameters) is not database.is_sqlite


def test_file_is_made_when_it_is_first_used(tmp_path: Path) -> None:
    with Database("sqlite:///new.db", folder=tmp_path) as database:
        assert (database.exists(), database.version()) == (False, "")
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "new.db").touch()
        assert (database.exists(), database.version()) == (False, "")
        database.open()
        assert (database.exists(), database.version()) == (True, HEAD)
        # Opening it again changes nothing.
        database.open()


def test_file_that_an_upgrade_makes_is_private(tmp_path: Path) -> None:
    with Database("sqlite:///new.db", folder=tmp_path) as database:
        upgrade(database, "0001")
        assert database.version() == "0001"
        assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        Database("sqlite:///nowhere/new.db", folder=tmp_path) as database,
        pytest.raises(StorageError, match=r"nowhere/new\.db: No such file or directory"),
    ):
        database.open()


def test_check_whether_it_is_writable_writes_nothing(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance).values(name="a", value="b"))
    database.check_writable()
    assert database.instance_value("a") == "b"


def test_database_that_may_only_be_read_is_not_writable(postgresql: Server) -> None:
    with postgresql.lent_database() as url:
        read_only = url.replace("options=", "options=-cdefault_transaction_read_only%3Don%20")
        with Database(url) as database, Database(read_only) as other:
            database.check_writable()
            assert other.exists()
            with pytest.raises(StorageError, match="read-only transaction"):
                other.check_writable()


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_reading_sees_one_moment(tmp_path: Path, backend: str, request: pytest.FixtureRequest) -> None:
    with contextlib.ExitStack() as stack:
        url = "sqlite:///one.db"
        if backend == "postgresql":
            url = stack.enter_context(request.getfixturevalue("postgresql").lent_database())
        database = stack.enter_context(Database(url, folder=tmp_path))
        database.open()
        assert database.check() == []
        value = select(Instance.c.value).where(Instance.c.name == "a")
        with database.reading() as connection:
            assert connection.scalar(value) is None
            with database.transaction() as other:
                other.execute(insert(Instance).values(name="a", value="b"))
            assert connection.scalar(value) is None
        assert database.instance_value("a") == "b"


def test_closed_database_holds_no_connection(database: Database) -> None:
    counter = database.change_counter()
    counter()
    assert database.instance_value("a") is None
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedin() == 1
    database.close()
    pool = database.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedin() == 0
    with pytest.raises(sqlite3.ProgrammingError):
        counter()
    # It can be used again.
    assert database.change_counter()() == database.change_counter()()


def test_block_closes_its_database(tmp_path: Path) -> None:
    with Database("sqlite:///one.db", folder=tmp_path) as database:
        database.open()
        counter = database.change_counter()
        counter()
    with pytest.raises(sqlite3.ProgrammingError):
        counter()


def test_counter_of_a_server_changes_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 100.4, 100.5, 100.9, 101.0])
    monkeypatch.setattr("mailer.database.engine.time.monotonic", lambda: next(times))
    with Database("postgresql://ana@127.0.0.1/news") as database:
        counter = database.change_counter()
        assert [counter() - 200 for _ in range(5)] == [0, 0, 1, 1, 2]


def test_only_a_file_is_backed_up(tmp_path: Path) -> None:
    with (
        Database("postgresql://ana@127.0.0.1/news") as database,
        pytest.raises(StorageError, match="only SQLite databases are backed up here; use pg_dump"),
    ):
        database.backup(tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (psycopg.errors.UndefinedTable("no\n table"), StorageError, "refused a statement: no table; check"),
        (psycopg.errors.NumericValueOutOfRange("too big"), StorageError, "refused a statement: too big"),
        (psycopg.OperationalError("gone\n away"), UnavailableError, "cannot be used: gone away; check"),
        (psycopg.InterfaceError("closed"), UnavailableError, "cannot be used: closed"),
    ],
)
def test_errors_of_a_server_say_whether_to_try_again(
    database: Database, error: psycopg.Error, kind: type[StorageError], said: str
) -> None:
    with pytest.raises(StorageError, match=said) as caught, database.transaction():
        raise DBAPIError.instance("SELECT 1", None, error, psycopg.Error)
    assert type(caught.value) is kind


def test_key_that_exists_is_left_to_the_caller(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction():
        raise DBAPIError.instance("INSERT", None, sqlite3.IntegrityError("unique"), sqlite3.Error)


def test_index_that_lost_a_row_is_reported(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(Instance), [{"name": f"n{number}", "value": "x"} for number in range(3)])
        # What SQLite calls an index is made of other columns than the table says.
        connection.execute(text("CREATE TABLE damaged (a INTEGER, b INTEGER)"))
        connection.execute(text("CREATE INDEX damaged_a ON damaged (a)"))
        connection.execute(text("INSERT INTO damaged VALUES (1, 2), (3, 4)"))
        connection.execute(text("PRAGMA writable_schema = ON"))
        changed = "UPDATE sqlite_schema SET sql = 'CREATE INDEX damaged_a ON damaged (b)' WHERE name = :name"
        connection.execute(text(changed), {"name": "damaged_a"})
        connection.execute(text("PRAGMA writable_schema = OFF"))
    database.close()
    found = database.check()
    assert found
    assert all("damaged_a" in line for line in found)
