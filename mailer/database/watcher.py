"""A connection to an SQLite file for questions that a run asks all the time.

It goes past SQLAlchemy, which would take five times as long to ask as SQLite takes to answer.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Compiled, SelectBase
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


class Watcher:
    """A connection that only reads, each time the newest commit. Its methods raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        # Several threads may use it, one at a time.
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._cursor = self._connection.cursor()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def commits(self) -> int:
        """Return a number that changes whenever anyone commits to the database."""
        with self._lock:
            number: int = self._cursor.execute("PRAGMA data_version").fetchone()[0]
        return number

    def rows(self, statement: SelectBase, values: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows that a statement finds; `values` are its parameters as SQLite stores them."""
        compiled = _compiled(statement)
        parameters = compiled.construct_params(dict(values)) or {}
        # `positiontup` is missing from the type of `Compiled`.
        names: list[str] = compiled.positiontup  # type: ignore[attr-defined]
        with self._lock:
            self._cursor.execute(str(compiled), [parameters[name] for name in names])
            return self._cursor.fetchall()


@cache
def _compiled(statement: SelectBase) -> Compiled:
    return statement.compile(dialect=SQLiteDialect_pysqlite())
