"""Copying one database into another, also between SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Integer, Row, Table, func, insert, select, text

from mailer.database.engine import Database
from mailer.database.tables import TableRow, every_table
from mailer.errors import RefusedError, StorageError

_AT_A_TIME: Final = 1_000
_LEFT_OUT: Final = frozenset({"workers", "limits", "seats"})
"""Tables about running processes; none runs while a database is copied."""
_SUM_BITS: Final = (1 << 256) - 1


@dataclass(frozen=True, slots=True)
class Copied:
    """One table that was copied."""

    table: str
    rows: int
    checksum: str
    """The same for the same rows in any order, on either database."""


def copy(
    source: Database, target: Database, *, progress: Callable[[str], None] = lambda table: None
) -> list[Copied]:
    """Copy every row, in one transaction of each database; read them back and compare counts and checksums.

    Nobody can write to the source meanwhile. Raises `RefusedError` if the target has rows, and
    `StorageError` if what arrived differs; then nothing was copied.
    """
    target.open()
    tables = [table for table in every_table().sorted_tables if table.name not in _LEFT_OUT]
    with source.transaction() as reading, target.transaction() as writing:
        for table in tables:
            if writing.execute(select(table).limit(1)).first() is not None:
                raise RefusedError(
                    f"{target.url.render_as_string()} is not empty: it has rows in {table.name}",
                    remedy="name a new database",
                )
        if not source.is_sqlite:
            names = ", ".join(f'"{table.name}"' for table in tables)
            reading.execute(text(f"LOCK TABLE {names} IN SHARE MODE"))
        copied = []
        for table in tables:
            progress(table.name)
            copied.append(_copy(table, reading, writing))
        for one, table in zip(copied, tables, strict=True):
            if (arrived := _checksum(table, writing)) != one:
                raise StorageError(
                    f"{table.name}: {one.rows:,} rows were read; the {arrived.rows:,} that arrived differ",
                    remedy="nothing was copied; run mailer db check, then try again",
                )
        if not target.is_sqlite:
            _continue_numbering(tables, writing)
    return copied


def _copy(table: Table, reading: Connection, writing: Connection) -> Copied:
    total, number = 0, 0
    for rows in _parts(table, reading):
        writing.execute(insert(table), [dict(row._mapping) for row in rows])
        total += sum(map(_digest, rows))
        number += len(rows)
    return Copied(table.name, number, f"{total & _SUM_BITS:064x}")


def _parts(table: Table, connection: Connection) -> Iterator[Sequence[TableRow]]:
    """Yield the rows of a table, a thousand at a time."""
    # By default, psycopg fetches the whole table first.
    return connection.execute(select(table), execution_options={"yield_per": _AT_A_TIME}).partitions()


def _checksum(table: Table, connection: Connection) -> Copied:
    total, number = 0, 0
    for rows in _parts(table, connection):
        total += sum(map(_digest, rows))
        number += len(rows)
    return Copied(table.name, number, f"{total & _SUM_BITS:064x}")


def _digest(row: Row[Any]) -> int:
    """Return the hash of a row. Their sum does not depend on the order, which differs between databases."""
    line = json.dumps(list(row), sort_keys=True, default=_plain)
    return int.from_bytes(hashlib.sha256(line.encode()).digest())


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"a column holds {type(value).__name__}")


def _continue_numbering(tables: Sequence[Table], connection: Connection) -> None:
    """Make the sequences of PostgreSQL continue after the highest number that was copied."""
    for table in tables:
        keys = list(table.primary_key.columns)
        if len(keys) != 1 or not isinstance(keys[0].type, Integer) or keys[0].autoincrement is False:
            continue
        highest = connection.scalar(select(func.max(keys[0])))
        sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, keys[0].name)))
        if highest is not None and sequence is not None:
            connection.execute(select(func.setval(sequence, highest)))
