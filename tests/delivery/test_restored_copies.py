"""A schedule in a restored or copied database sends nothing by itself, and nobody gets an issue twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest

from mailer.database.engine import Database
from mailer.database.tables import IssueState
from mailer.delivery import adopting, control, issues, schedule
from mailer.delivery.lock import sending
from mailer.delivery.schedule import STALE_AFTER
from mailer.errors import RefusedError
from tests.delivery.scene import AT, EDITION, books, subscribe
from tests.delivery.scheduling import DUE, Worker, add, alerts
from tests.postgres import Server
from tests.programs import program

PEOPLE = [f"s{n}@example.org" for n in (1, 2, 3)]
Copy = Callable[[], Database]


def moved(original: Database, folder: Path) -> Database:
    """Copy an SQLite database to another place."""
    original.backup(folder / "copy.db")
    return Database("sqlite:///copy.db", folder=folder)


def dumped(server: Server, name: str, other: str, folder: Path) -> Database:
    """Restore a dump of a PostgreSQL database as another one."""
    binaries = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    dump = program("pg_dump", *(f"{one}/pg_dump" for one in binaries))
    restore = program("pg_restore", *(f"{one}/pg_restore" for one in binaries))
    at = server.dsn.removesuffix("/postgres")
    subprocess.run([dump, "-Fc", "-f", folder / "dump", f"{at}/{name}"], check=True)
    with server.connection() as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(other)))
    subprocess.run([restore, "-d", f"{at}/{other}", folder / "dump"], check=True)
    return Database(f"{at}/{other}")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Database, Copy]:
    """Return a database with three readers, and a function that copies it as it is."""
    if request.param == "sqlite":
        original = Database("sqlite:///subscribers.db", folder=tmp_path)
        copy = partial(moved, original, tmp_path)
    else:
        server: Server = request.getfixturevalue("postgresql")
        name = f"news{abs(hash(tmp_path))}"
        with server.connection() as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        original = Database(f"{server.dsn.removesuffix('/postgres')}/{name}")
        copy = partial(dumped, server, name, f"{name}_copy", tmp_path)
    original.open()
    subscribe(original, len(PEOPLE))
    return original, copy


def workers(original: Database, copied: Database, folder: Path) -> tuple[Worker, Worker]:
    """Return a worker for each, with an outbox of its own."""
    for name in ("here", "there"):
        (folder / name).mkdir()
    return Worker(original, folder / "here"), Worker(copied, folder / "there")


def slugs(database: Database) -> list[str]:
    with database.reading() as connection:
        return [one.slug for one in issues.issues(connection)]


@pytest.mark.parametrize("sent_before", [False, True])
def test_copy_of_a_schedule_sends_nothing_until_the_operator_says_so(
    pair: tuple[Database, Copy], tmp_path: Path, sent_before: bool
) -> None:
    original, copy = pair
    if sent_before:
        with sending(original):
            pass
    add(original)
    with closing(original), closing(copy()) as copied:
        here, there = workers(original, copied, tmp_path)
        here.at = there.at = DUE
        with pytest.raises(RefusedError, match="mailer db adopt"):
            there.rounds.once()
        here.rounds.once()
        assert (here.mailed(), there.mailed(), slugs(copied)) == (PEOPLE, [], [])
        there.at += timedelta(minutes=20)
        assert there.at - DUE < STALE_AFTER
        held = adopting.adopt(copied, at=there.at)
        assert (held.paused, held.missed) == ([], [EDITION.slug])
        assert "an older copy of the database may have sent it" in alerts(copied)[0]
        there.rounds.once()
        assert (there.mailed(), slugs(copied)) == ([], [])
        with copied.reading() as connection:
            assert [one.missed for one in schedule.scheduled(connection)] == [True]
        # Deliberately, as `mailer send` does.
        with copied.transaction() as connection:
            issues.enqueue(connection, EDITION, source_path="x.md", at=there.at)
        there.rounds.once()
        assert there.mailed() == PEOPLE


def test_unfinished_issue_of_an_adopted_copy_waits_to_be_resumed(
    pair: tuple[Database, Copy], tmp_path: Path
) -> None:
    original, copy = pair
    with sending(original):
        pass
    with original.transaction() as connection:
        issue, _ = issues.enqueue(connection, EDITION, source_path="x.md", at=AT)
    with closing(original), closing(copy()) as copied:
        here, there = workers(original, copied, tmp_path)
        here.rounds.once()
        assert adopting.adopt(copied, at=AT).paused == [EDITION.slug]
        there.rounds.once()
        assert there.mailed() == []
        with copied.transaction() as connection:
            found = issues.get(connection, issue.id)
            assert (found.state, "was copied or restored" in found.reason) == (IssueState.PAUSED, True)
            control.resume(connection, issue.id)
        there.rounds.once()
        assert there.mailed() == PEOPLE
        assert books(copied, issue).sent == len(PEOPLE)


def test_older_file_put_back_in_its_place_sends_no_schedule(database: Database, tmp_path: Path) -> None:
    assert database.path is not None
    subscribe(database, 3)
    add(database)
    database.backup(tmp_path / "snapshot.db")
    with sending(database):
        pass
    database.close()
    for suffix in ("-wal", "-shm"):
        database.path.with_name(database.path.name + suffix).unlink(missing_ok=True)
    shutil.copy(tmp_path / "snapshot.db", database.path)
    with Database("sqlite:///subscribers.db", folder=tmp_path) as restored:
        worker = Worker(restored, tmp_path)
        worker.at = DUE
        with pytest.raises(RefusedError, match="was sent from here"):
            worker.rounds.once()
        assert (worker.mailed(), slugs(restored)) == ([], [])


def test_nothing_is_scheduled_in_a_copy(database: Database, tmp_path: Path) -> None:
    with sending(database):
        pass
    with closing(moved(database, tmp_path)) as copied, pytest.raises(RefusedError, match="mailer db adopt"):
        add(copied)
