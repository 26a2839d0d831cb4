"""Rows that go to the database together.

SQLite executes an INSERT once for each row, and its driver lets go of Python's lock for each: in a thread
beside a busy event loop every row waits for the lock to come back. Rows that are one parameter are one
statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from msgspec import json
from sqlalchemy import Dialect, TextClause, insert, text
from sqlalchemy.orm import Session

from mailer.database.models import Base


def insert_rows(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that name the same columns, none of them a BLOB; no rows are no statement.

    Columns that are not named get the default of the database, not one of Python.
    """
    if not rows:
        return
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        session.execute(insert(model), list(rows))
        return
    names = tuple(rows[0])
    stored = [(name, _processor(model, name, connection.dialect)) for name in names]
    values = [[row[name] if store is None else store(row[name]) for name, store in stored] for row in rows]
    connection.execute(_statement(model, names), {"rows": json.encode(values).decode()})


@cache
def _statement(model: type[Base], names: tuple[str, ...]) -> TextClause:
    values = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(names)))
    columns = ", ".join(f'"{name}"' for name in names)
    return text(f"INSERT INTO {model.__tablename__} ({columns}) SELECT {values} FROM json_each(:rows)")  # noqa: S608 - our names


@cache
def _processor(model: type[Base], name: str, dialect: Dialect) -> Any:
    """Return what makes the stored value of one of ours, or None if they are the same."""
    kind = model.__table__.c[name].type
    return kind.dialect_impl(dialect).bind_processor(dialect)
