"""Bulk inserts, and the statistics that a database plans by.

SQLite executes an INSERT once per row, and its driver releases Python's lock each time: in a thread beside a
busy event loop, every row waits to get the lock back. Passing all rows as one parameter makes it one
statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from msgspec import json
from sqlalchemy import Connection, Dialect, Table, TextClause, insert, text


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows with the same columns, none of them a BLOB; without rows, execute nothing.

    Other columns get the database's default, not one defined in Python.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(insert(table), list(rows))
        return
    names = tuple(rows[0])
    stored = [(name, _processor(table, name, connection.dialect)) for name in names]
    values = [[row[name] if store is None else store(row[name]) for name, store in stored] for row in rows]
    connection.execute(_statement(table, names), {"rows": json.encode(values).decode()})


def refresh_statistics(connection: Connection, *tables: Table) -> None:
    """Make PostgreSQL analyse tables that have just grown; on SQLite, do nothing.

    PostgreSQL does so by itself about once a minute. Until then it plans as if the tables were as small as
    before: reverting an import of 5,000 rows into a new database took more than a quarter of an hour.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"ANALYZE {', '.join(table.name for table in tables)}"))


@cache
def _statement(table: Table, names: tuple[str, ...]) -> TextClause:
    values = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(names)))
    columns = ", ".join(f'"{name}"' for name in names)
    return text(f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM json_each(:rows)")  # noqa: S608 - our names


@cache
def _processor(table: Table, name: str, dialect: Dialect) -> Any:
    """Return the function that converts a value for storage, or None if it is stored unchanged."""
    kind = table.c[name].type
    return kind.dialect_impl(dialect).bind_processor(dialect)
