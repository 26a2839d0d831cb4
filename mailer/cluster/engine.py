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
from sqlalchemy import Connection, text

from mailer.database.engine import Database

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
    with database.reading() as connection:
        if _applied(connection, _schema(connection)) == newest:
            return False
    with database.transaction() as connection:
        name = _schema(connection)
        connection.execute(_ONE_AT_A_TIME, {"name": name})
        applied = _applied(connection, name)
        if applied == newest:
            return False
        driver = _driver_connection(connection)
        if applied is None:
            driver.execute(SQL("CREATE SCHEMA {}").format(Identifier(name)))
            scripts = [SchemaManager.get_schema()]
        else:
            # The text of Procrastinate's own files.
            scripts = [cast(Any, path.read_text("utf-8")) for path in _migrations() if path.stem > applied]
        driver.execute(SQL("SET LOCAL search_path = {}").format(Identifier(name)))
        for script in scripts:
            driver.execute(script)
        driver.execute(SQL("COMMENT ON SCHEMA {} IS {}").format(Identifier(name), Literal(newest)))
    return True


def is_prepared(connection: Connection) -> bool:
    """Return whether the tables exist."""
    return _applied(connection, _schema(connection)) is not None


def search(connection: Connection) -> psycopg.Connection[Any]:
    """Return psycopg's connection; Procrastinate finds its tables there until the transaction ends."""
    connection.execute(_ALSO_SEARCH, {"name": _schema(connection)})
    return _driver_connection(connection)


def _driver_connection(connection: Connection) -> psycopg.Connection[Any]:
    """Return psycopg's connection; its work is committed if SQLAlchemy has begun the transaction before."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def connector(database: Database) -> PsycopgConnector:
    """Return a connector to the tables, with connections of its own."""
    with database.reading() as connection:
        name = _schema(connection)
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


def _schema(connection: Connection) -> str:
    return f"{connection.scalar(_OUR_SCHEMA)}_jobs"


def _applied(connection: Connection, name: str) -> str | None:
    """Return the newest migration that was applied; None if there are no tables."""
    found: str | None = connection.scalar(_APPLIED, {"name": name})
    return found


def _migrations() -> list[Path]:
    return sorted(Path(SchemaManager.get_migrations_path()).glob("[0-9]*.sql"))
