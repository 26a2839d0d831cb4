"""A copied database has the same rows, on SQLite and on PostgreSQL, or the copy does not exist."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Integer, LargeBinary, String, insert, text

from mailer.cli import run
from mailer.database.columns import Instant
from mailer.database.copying import copy
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, every_table
from mailer.database.usage import require_unused
from mailer.errors import ExitCode, LockedError, RefusedError, StorageError
from tests.databases import empty_database
from tests.postgres import Server

ROWS = 3


def value(column: Column[Any], number: int) -> Any:
    """Return a value that a column can hold; the rows of all tables with one number belong together."""
    kind = column.type
    if column.name in ("attempts", "edition", "commits"):
        return number
    if column.nullable and number == 2:
        return None
    if isinstance(kind, Instant):
        return datetime(2026, 1, number, 12, 30, 15, 123_456, tzinfo=UTC) + timedelta(microseconds=number)
    if isinstance(kind, Boolean):
        return number % 2 == 0
    if isinstance(kind, BigInteger | Integer):
        return number
    if isinstance(kind, Float):
        return 0.1 * number
    if isinstance(kind, LargeBinary):
        return bytes([0, 255, number])
    if isinstance(kind, JSON):
        return {"b": [number, 0.5, None, True], "a": "é\u2028'\"", "": {}}
    assert isinstance(kind, String)
    return f"{number}é'\"\\ \n"[: kind.length]


def fill(database: Database) -> None:
    """Insert rows with odd values into every table."""
    database.open()
    with database.transaction() as connection:
        for table in every_table().sorted_tables:
            rows = [{column.name: value(column, n) for column in table.columns} for n in range(1, ROWS + 1)]
            connection.execute(insert(table), rows)


def counts(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        names = [table.name for table in every_table().sorted_tables]
        return {name: connection.scalar(text(f'SELECT count(*) FROM "{name}"')) or 0 for name in names}


def test_there_and_back_every_row_is_the_same(postgresql: Server, tmp_path: Path) -> None:
    with empty_database(tmp_path) as source, postgresql.lent_database() as url, Database(url) as server:
        fill(source)
        there = copy(source, server)
        with Database("sqlite:///back.db", folder=tmp_path) as back:
            assert copy(server, back) == there
            left_out = {"workers": 0, "limits": 0, "seats": 0}
            assert counts(back) == counts(source) | left_out
        assert {one.rows for one in there} == {ROWS}
        assert len({one.checksum for one in there}) > len(there) // 2
        # The next subscriber gets a number of its own.
        with server.transaction() as connection:
            new = {"address": "n@example.org", "address_key": "n@example.org", "status": "active"}
            needed = [one for one in Subscriber.columns if not (one.nullable or one.primary_key)]
            values = {one.name: value(one, 9) for one in needed} | new
            added = insert(Subscriber).values(values).returning(Subscriber.c.id)
            assert connection.scalar(added) == ROWS + 1


def test_target_with_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with empty_database(tmp_path) as source, empty_database(tmp_path / "other") as target:
        fill(source)
        copy(source, target)
        before = counts(target)
        with pytest.raises(RefusedError, match="is not empty"):
            copy(source, target)
        assert counts(target) == before


def test_rows_that_arrive_changed_undo_the_copy(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with empty_database(tmp_path) as source, empty_database(tmp_path / "other") as target:
        fill(source)
        with target.transaction() as connection:
            connection.execute(
                text(
                    "CREATE TRIGGER odd AFTER INSERT ON subscribers BEGIN"
                    " UPDATE subscribers SET status = 'x' WHERE id = new.id; END"
                )
            )
        with pytest.raises(StorageError, match="subscribers: 3 rows were read; the 3 that arrived differ"):
            copy(source, target)
        assert set(counts(target).values()) == {0}


HOLDER = """
import sys
from mailer.database.engine import Database
with Database(sys.argv[1]) as database:
    database.version()
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_database_that_another_process_has_open_is_in_use(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    if kind == "sqlite":
        check_use(f"sqlite:///{tmp_path}/subscribers.db")
    else:
        with request.getfixturevalue("postgresql").lent_database() as url:
            check_use(url)


def check_use(url: str) -> None:
    with Database(url) as database:
        database.open()
        require_unused(database)
        held = [sys.executable, "-c", HOLDER, url]
        with subprocess.Popen(held, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            with pytest.raises(LockedError, match=r"has .* open|is in use by mailer \d+ on "):
                require_unused(database)
            other.communicate("")
        require_unused(database)
        assert database.version()


def test_command_moves_the_newsletter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text("")
    here = ["-C", str(tmp_path)]
    assert run(["subscribers", "add", "jo@example.org", *here]) == ExitCode.DONE
    assert run(["db", "copy", "--to", "sqlite:///new.db", *here]) == ExitCode.DONE
    assert "with the same checksums" in capsys.readouterr().out
    (tmp_path / "config.toml").write_text('paths.database = "sqlite:///new.db"')
    assert run(["subscribers", "list", *here]) == ExitCode.DONE
    assert "jo@example.org" in capsys.readouterr().out
    assert run(["db", "copy", "--to", "sqlite:///new.db", *here]) == ExitCode.REFUSED
    assert run(["db", "copy", "--to", "mysql://x", *here]) == ExitCode.CONFIGURATION
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("SELECT value FROM instance WHERE name = 'home'").fetchone() == (
            str(tmp_path / "new.db"),
        )
