"""The schema, its migrations, and what a transaction promises."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from mailer.database import session as database_session
from mailer.database.models import Base, Instance, StoredEdition
from mailer.database.session import HEAD, Database, upgrade
from mailer.errors import SchemaError, StorageError


def test_first_use_makes_the_newest_schema_readable_by_the_owner_alone(database: Database) -> None:
    assert database.path is not None
    assert database.version() == HEAD
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600


def test_migrations_make_exactly_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_newest_migration() -> None:
    folder = Path(database_session.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [HEAD]


def test_every_older_schema_is_brought_up_with_what_it_holds(tmp_path: Path) -> None:
    script = ScriptDirectory(str(Path(database_session.__file__).parent / "migrations"))
    for older in (one.revision for one in script.walk_revisions() if one.revision != HEAD):
        database = Database(f"sqlite:///{older}.db", folder=tmp_path)
        upgrade(database, older)
        assert database.version() == older
        with database.transaction() as session:
            session.add(Instance(name="kept", value=older))
        with pytest.raises(SchemaError, match="mailer db upgrade"):
            database.open()
        upgrade(database)
        database.open()
        assert database.instance_value("kept") == older
        with database.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        database.close()


def test_old_schema_is_refused_with_the_command_that_mends_it(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaError, match="mailer db upgrade"):
        database.open()


def test_newer_schema_is_refused(database: Database) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="newer"):
        database.open()


def test_foreign_database_is_left_alone(tmp_path: Path) -> None:
    with Database("sqlite:///other.db", folder=tmp_path) as database:
        with database.transaction() as session:
            session.execute(text("CREATE TABLE somebody (id INTEGER)"))
        with pytest.raises(SchemaError, match="not ours"):
            database.open()


def test_failed_transaction_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as session:
        session.add(Instance(name="a", value="b"))
        session.flush()
        raise RuntimeError
    assert database.instance_value("a") is None


def test_commits_are_durable_and_keys_enforced(database: Database) -> None:
    with database.reading() as session:
        pragmas = {
            name: session.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_instants_come_back_exactly(database: Database) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    with database.transaction() as session:
        session.add(StoredEdition(digest="d", content="", created_at=at))
    with database.reading() as session:
        stored = session.get(StoredEdition, "d")
        assert stored is not None
        assert stored.created_at == at


def test_secrets_are_made_once(database: Database) -> None:
    first = database.secrets()
    assert first == database.secrets()
    assert len(first[0]) == 32


def test_damaged_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "subscribers.db").write_bytes(b"this is no database" * 100)
    with (
        pytest.raises(StorageError, match="damaged"),
        Database("sqlite:///subscribers.db", folder=tmp_path) as database,
    ):
        database.open()


def test_backup_holds_what_was_committed(database: Database, tmp_path: Path) -> None:
    with database.transaction() as session:
        session.add(Instance(name="a", value="b"))
    database.backup(tmp_path / "copy.db")
    with Database("sqlite:///copy.db", folder=tmp_path) as copy:
        assert copy.instance_value("a") == "b"
    with pytest.raises(StorageError, match="exists"):
        database.backup(tmp_path / "copy.db")
