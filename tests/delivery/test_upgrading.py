"""An upgrade ends with the new database or with the old one, however it is interrupted."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import text

from mailer import cli
from mailer.database.engine import HEAD, Database, upgrade
from mailer.delivery import backups
from mailer.delivery.lock import sending
from mailer.delivery.upgrading import upgrade_safely
from mailer.errors import ExitCode, LockedError, RefusedError, StorageError
from tests.conftest import PROJECT
from tests.delivery.scene import AT
from tests.postgres import Server

VERSIONS = [f"{number:04}" for number in range(1, int(HEAD))]
KILLS = 10
PEOPLE = int(os.environ.get("TEST_UPGRADE_PEOPLE", "300"))
ISSUES = 1 if PEOPLE <= 300 else 20
# Kills a child at every tenth part of the statements of an upgrade, and prints the versions it left.
KILLER = """
import alembic.command, os, shutil, signal, sys
from pathlib import Path
from sqlalchemy import event
from mailer.database.engine import Database
from mailer.delivery.upgrading import upgrade_safely
from tests.delivery.scene import AT

def attempt(path, limit):
    child = os.fork()
    if child == 0:
        database, number = Database(f"sqlite:///{path}"), 0
        def count(*details):
            nonlocal number
            number += 1
            if number == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        event.listen(database.engine, "after_cursor_execute", count)
        upgrade_safely(database, back_up=True, at=AT)
        os.write(pipe[1], str(number).encode())
        os._exit(0)
    os.waitpid(child, 0)

old, folder, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
pipe = os.pipe()
def copy(name):
    (folder / name).mkdir()
    return shutil.copy(old, folder / name / "subscribers.db")
attempt(copy("whole"), 0)
number = int(os.read(pipe[0], 20))
for part in range(kills):
    attempt(copy(str(part)), 1 + number * part // kills)
"""


def old_database(path: Path, version: str = "0001", people: int = 300, issues: int = 1) -> Path:
    """Make a database of an earlier version with subscribers and issues that some of them got."""
    with Database(f"sqlite:///{path}") as database:
        upgrade(database, version)
    with closing(sqlite3.connect(path)) as connection, connection:
        addresses = [(number, f"s{number}@example.org") for number in range(1, people + 1)]
        insert(
            connection,
            "subscribers",
            ({"id": number, "address": address, "address_key": address} for number, address in addresses),
        )
        insert(connection, "editions", [{"digest": "d"}])
        for issue in range(1, issues + 1):
            row = {"id": issue, "slug": f"{issue:03}-a", "edition_digest": "d", "audience": people}
            insert(connection, "issues", [row])
            deliveries = (
                {"issue_id": issue, "subscriber_id": number, "state": "sent" if number % 2 else "queued"}
                for number, _ in addresses
            )
            insert(connection, "deliveries", deliveries)
    return path


def insert(connection: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Insert rows of one shape; columns that must have a value and get none get a zero."""
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    needed: dict[str, object] = {
        name: "{}" if name == "attributes" else 0
        for _, name, _, no, given, _ in columns
        if no and given is None
    }
    filled = iter({**needed, **row} for row in rows)
    first = next(filled)
    names, marks = ", ".join(first), ", ".join(f":{name}" for name in first)
    connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", chain([first], filled))


def states(path: Path) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall()


def schema(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT sql FROM sqlite_master WHERE sql > '' ORDER BY sql").fetchall()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_earlier_version_is_upgraded_with_its_data(tmp_path: Path, version: str) -> None:
    path = old_database(tmp_path / "subscribers.db", version, people=4)
    before = states(path)
    with Database(f"sqlite:///{path}") as database:
        done = upgrade_safely(database, back_up=True, at=AT)
        assert (done.before, database.version()) == (version, HEAD)
        assert backups.findings(database) == []
    assert states(path) == before
    assert done.backup is not None
    assert states(done.backup) == before
    assert done.backup.stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(300 + PEOPLE // 50)
def test_killed_upgrade_leaves_the_old_database_or_the_new(tmp_path: Path) -> None:
    old = old_database(tmp_path / "old.db", people=PEOPLE, issues=ISSUES)
    subprocess.run([sys.executable, "-c", KILLER, str(old), str(tmp_path), str(KILLS)], check=True)
    right = {"0001": schema(old), HEAD: schema(tmp_path / "whole" / "subscribers.db")}
    counted, found = states(old), []
    for part in range(KILLS):
        path = tmp_path / str(part) / "subscribers.db"
        with Database(f"sqlite:///{path}") as database:
            found.append(database.version())
            assert database.check() == []
            assert schema(path) == right[found[-1]]
            assert states(path) == counted
            upgrade_safely(database, back_up=False, at=AT)
            assert backups.findings(database) == []
        # Ten copies of a large database fill a disk.
        shutil.rmtree(path.parent)
    print(f"{found.count('0001')} old, {found.count(HEAD)} new")
    assert set(found) <= {"0001", HEAD}
    assert "0001" in found


# Upgrades one database, and kills the upgrade of another near its end; then upgrades that as well.
SERVER_KILLER = """
import alembic.command, os, signal, sys
from sqlalchemy import event
from mailer.database.engine import Database
from mailer.delivery.upgrading import upgrade_safely
from tests.delivery.scene import AT
from tests.delivery.test_upgrading import columns

def attempt(url, limit):
    child = os.fork()
    if child == 0:
        database, number = Database(url), 0
        def count(*details):
            nonlocal number
            number += 1
            if number == limit:
                os.kill(os.getpid(), signal.SIGKILL)
        event.listen(database.engine, "after_cursor_execute", count)
        upgrade_safely(database, back_up=False, at=AT)
        database.close()
        os.write(pipe[1], str(number).encode())
        os._exit(0)
    return os.waitpid(child, 0)[1]

pipe = os.pipe()
assert attempt(sys.argv[1], 0) == 0
number = int(os.read(pipe[0], 20))
old = columns(sys.argv[2])
assert attempt(sys.argv[2], int(number * 0.95)) == signal.SIGKILL
assert columns(sys.argv[2]) == old
assert attempt(sys.argv[2], 0) == 0
"""


@pytest.mark.slow
def test_killed_upgrade_on_postgresql_leaves_the_old_database_or_the_new(postgresql: Server) -> None:
    urls = [postgresql.new_database() for _ in range(2)]
    for url in urls:
        with Database(url) as database:
            upgrade(database, "0005")
    old = columns(urls[1])
    killed = subprocess.run(
        [sys.executable, "-c", SERVER_KILLER, *urls], cwd=PROJECT, capture_output=True, text=True
    )
    assert killed.returncode == 0, killed.stderr
    new, upgraded = map(columns, urls)
    assert old != new == upgraded


def columns(url: str) -> list[tuple[str, str]]:
    """Return every column of a schema, once no other connection holds a lock on it."""
    query = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
    )
    with Database(url) as database, database.reading() as connection:
        return sorted((row[0], row[1]) for row in connection.execute(text(query)))


def test_failed_check_restores_the_old_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_database(tmp_path / "subscribers.db", people=4)
    before = schema(path), states(path)
    monkeypatch.setattr(backups, "findings", lambda database: ["row 7 is missing"])
    with Database(f"sqlite:///{path}") as database:
        with pytest.raises(StorageError, match="failed and was undone: row 7 is missing"):
            upgrade_safely(database, back_up=True, at=AT)
        assert database.version() == "0001"
    assert (schema(path), states(path)) == before


def test_no_upgrade_while_an_issue_is_sent(database: Database, tmp_path: Path) -> None:
    path = old_database(tmp_path / "old.db", people=4)
    with Database(f"sqlite:///{path}") as old:
        with sending(database):  # another database
            upgrade_safely(old, back_up=False, at=AT)
        with sending(old), closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
            connection.commit()
            with pytest.raises(LockedError):
                upgrade_safely(old, back_up=True, at=AT)


def test_backup_of_postgresql_is_left_to_its_own_tools(postgresql: Server) -> None:
    with Database(postgresql.new_database()) as database:
        upgrade(database, "0001")
        with pytest.raises(RefusedError, match="not backed up here"):
            upgrade_safely(database, back_up=True, at=AT)
        assert upgrade_safely(database, back_up=False, at=AT).before == "0001"
        assert database.version() == HEAD


def test_command_says_what_it_did_and_refuses_while_pages_are_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text("")
    old_database(tmp_path / "subscribers.db", "0005", people=4)
    here = ["-C", str(tmp_path)]
    with closing(sqlite3.connect(tmp_path / "subscribers.db")) as pages:
        pages.execute("SELECT count(*) FROM issues").fetchone()
        assert cli.run(["upgrade", *here]) == ExitCode.LOCKED
        assert "stop mailer serve, worker and console first" in capsys.readouterr().err
    assert cli.run(["status", *here]) == ExitCode.CONFIGURATION
    assert "with: mailer upgrade" in capsys.readouterr().err
    assert cli.run(["upgrade", *here]) == ExitCode.DONE
    out = capsys.readouterr().out
    assert f"the database is at version {HEAD} (was 0005)" in out
    assert Path(out.split("the old one is in ")[1].split(";")[0]).exists()
    assert cli.run(["upgrade", *here]) == ExitCode.DONE
    assert "already" in capsys.readouterr().out
    assert cli.run(["db", "check", *here]) == ExitCode.DONE
