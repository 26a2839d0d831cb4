"""One sender at a time, and none on a stale or copied database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mailer.database.engine import Database
from mailer.database.instances import set_value
from mailer.delivery import runs
from mailer.delivery.clock import now
from mailer.delivery.lock import adopt, exclusive, sending
from mailer.errors import ExitCode, LockedError, RefusedError
from tests.connections import new_database
from tests.delivery.scene import queued
from tests.postgres import Server


def test_second_run_is_refused_while_the_first_lasts(database: Database) -> None:
    with sending(database), pytest.raises(LockedError) as caught, sending(database):
        pass
    assert caught.value.exit_code == ExitCode.LOCKED


def test_lock_is_free_after_the_run(database: Database) -> None:
    for expected in ("1", "2", "3"):
        with sending(database):
            assert database.instance_value("generation") == expected


def test_copied_database_sends_nothing_until_it_is_adopted(database: Database, tmp_path: Path) -> None:
    with sending(database):
        pass
    database.backup(tmp_path / "copy.db")
    with Database("sqlite:///copy.db", folder=tmp_path) as copy:
        with pytest.raises(RefusedError, match="mailer db adopt"), sending(copy):
            pass
        adopt(copy)
        with sending(copy):
            assert copy.instance_value("home") == str(tmp_path / "copy.db")


def test_restored_snapshot_sends_nothing_until_it_is_adopted(database: Database, tmp_path: Path) -> None:
    assert database.path is not None
    with sending(database):
        pass
    database.backup(tmp_path / "snapshot.db")
    with sending(database):
        pass
    database.close()
    for suffix in ("-wal", "-shm"):
        database.path.with_name(database.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "snapshot.db", database.path)
    with Database("sqlite:///subscribers.db", folder=tmp_path) as restored:
        with pytest.raises(RefusedError, match="older than what was already sent"), sending(restored):
            pass
        adopt(restored)
        with sending(restored):
            assert restored.instance_value("generation") == "3"


def test_damaged_lock_file_is_refused_not_ignored(database: Database, tmp_path: Path) -> None:
    with sending(database):
        pass
    (tmp_path / "subscribers.db.sending").write_text("{", encoding="utf-8")
    with pytest.raises(RefusedError, match="damaged"), sending(database):
        pass


@pytest.mark.parametrize(
    "other",
    [
        "database 1 of system {system}, timeline {timeline}",
        "database {database} of system 1, timeline {timeline}",
        "database {database} of system {system}, timeline 7",
    ],
    ids=["restored into another database", "restored on another server", "standby that took over"],
)
def test_copy_of_a_postgresql_database_sends_nothing_until_it_is_adopted(
    postgresql: Server, other: str
) -> None:
    with new_database(postgresql) as database:
        with sending(database):
            home = database.instance_value("home")
        assert home is not None
        _, number, _, _, system, _, timeline = home.replace(",", "").split()
        with database.transaction() as connection:
            was = other.format(database=number, system=system, timeline=timeline)
            set_value(connection, "home", was)
        with pytest.raises(RefusedError, match=f"it was {was} and is {home}") as refused, sending(database):
            pass
        assert refused.value.remedy == "if this database is the right one, run: mailer db adopt"
        adopt(database)
        with sending(database):
            assert database.instance_value("home") == home


def test_nothing_is_withdrawn_from_postgresql_while_a_run_lives(postgresql: Server) -> None:
    with new_database(postgresql) as database:
        issue = queued(database, 3)
        with database.transaction() as connection:
            run_id = runs.begin(connection, issue.id, at=now())
        with pytest.raises(LockedError, match="another run is sending"), exclusive(database):
            pass
        with database.transaction() as connection:
            runs.end(connection, run_id, at=now())
        with exclusive(database) as connection:
            assert runs.alive(connection) == []
