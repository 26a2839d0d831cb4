"""Which other processes have the database open.

A process that goes on working while its database is replaced would write to the wrong one. Copying, restoring
and upgrading a database therefore check this first.
"""

from __future__ import annotations

import contextlib
import sqlite3

from sqlalchemy import text

from mailer.database.engine import Database
from mailer.errors import LockedError

_REMEDY = "stop mailer serve, worker and console first"
_OTHERS = text(
    "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'mailer %' AND application_name <> :own ORDER BY 1"
)


def require_unused(database: Database) -> None:
    """Close the idle connections of a database; raise `LockedError` if another process has any."""
    database.close()
    if not database.exists():
        return
    database.close()
    if database.path is not None:
        _require_unused_file(database)
        return
    own = database.connect_parameters.get("application_name", "")
    with database.reading() as connection:
        others = connection.scalars(_OTHERS, {"own": own}).all()
    if others:
        raise LockedError(f"the database is in use by {', '.join(others)}", remedy=_REMEDY)


def _require_unused_file(database: Database) -> None:
    """Leave WAL mode for a moment, which SQLite allows only the last connection to a file."""
    assert database.path is not None
    with contextlib.closing(sqlite3.connect(database.path, timeout=0.5, isolation_level=None)) as connection:
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise LockedError(f"another process has {database.path} open", remedy=_REMEDY) from error
