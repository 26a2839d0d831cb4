"""Procrastinate's tables, in a PostgreSQL schema of their own beside ours, and its connections to them.

The schema is named after ours: `public_jobs` beside `public`. Its comment records the newest migration of
Procrastinate that was applied.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.schema import SchemaManager
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy import text
from sqlalchemy.orm import Session

from mailer.database.session import Database

_OUR_SCHEMA: Final = text("SELECT current_schema()")
_APPLIED: Final = text(
    "SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = :name"
)
_ONE_AT_A_TIME: Final = text("SELECT pg_advisory_xact_lock(hashtext(:name))")
_ALSO_SEARCH: Final = text(
    "SELECT set_config('search_path', current_setting('search_path') || ', ' || quote_ident(:name), true)"
)
_POOL_CONNECTIONS: Final = 4


def prepare(database: Database) -> bool:
    """Create the tables or bring them up to date; return whether there was anything to do."""
    newest = _migrations()[-1].stem
    with database.reading() as session:
        if _applied(session, _schema(session)) == newest:
            return False
    with database.transaction() as session:
        name = _schema(session)
        session.execute(_ONE_AT_A_TIME, {"name": name})
        applied = _applied(session, name)
        if applied == newest:
            return False
        connection = driver_connection(session)
        if applied is None:
            connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(name)))
            scripts = [SchemaManager.get_schema()]
        else:
            # The text of Procrastinate's own files.
            scripts = [cast(Any, path.read_text("utf-8")) for path in _migrations() if path.stem > applied]
        connection.execute(SQL("SET LOCAL search_path = {}").format(Identifier(name)))
        for script in scripts:
            connection.execute(script)
        connection.execute(SQL("COMMENT ON SCHEMA {} IS {}").format(Identifier(name), Literal(newest)))
    return True


def is_prepared(session: Session) -> bool:
    """Return whether the tables exist."""
    return _applied(session, _schema(session)) is not None


def search(session: Session) -> psycopg.Connection[Any]:
    """Return the connection of a session; Procrastinate finds its tables there until the transaction ends."""
    session.execute(_ALSO_SEARCH, {"name": _schema(session)})
    return driver_connection(session)


def driver_connection(session: Session) -> psycopg.Connection[Any]:
    """Return psycopg's connection of a session."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    return connection


def connector(database: Database) -> PsycopgConnector:
    """Return a connector to the tables, with connections of its own."""
    with database.reading() as session:
        name = _schema(session)
    _, parameters = database.engine.dialect.create_connect_args(database.url)

    async def configure(connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(SQL("SET search_path = {}").format(Identifier(name)))
        await connection.commit()

    return PsycopgConnector(
        kwargs={**database.connect_parameters, **parameters},
        configure=configure,
        min_size=1,
        max_size=_POOL_CONNECTIONS,
    )


def _schema(session: Session) -> str:
    return f"{session.scalar(_OUR_SCHEMA)}_jobs"


def _applied(session: Session, name: str) -> str | None:
    """Return the newest migration that was applied; None if there are no tables."""
    found: str | None = session.scalar(_APPLIED, {"name": name})
    return found


def _migrations() -> list[Path]:
    return sorted(Path(SchemaManager.get_migrations_path()).glob("[0-9]*.sql"))
