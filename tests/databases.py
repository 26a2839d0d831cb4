"""Empty SQLite databases, copied from one: running the migrations takes longer than most tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, delete, func, insert, literal, select

from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, RunningTotal

URL = "sqlite:///subscribers.db"


def empty_database(folder: Path) -> Database:
    """Return the database in a folder; if there is none, create one with all tables and no rows."""
    path = folder / "subscribers.db"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_empty())
    return Database(URL, folder=folder)


@cache
def _empty() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with Database(URL, folder=Path(folder)) as database:
            database.open()
        return Path(folder, "subscribers.db").read_bytes()


def recount(connection: Connection) -> None:
    """Set the running totals to what counting finds, after a test changed deliveries by hand."""
    connection.execute(delete(RunningTotal))
    states = [func.count().filter(Delivery.c.state == state.value) for state in DeliveryState]
    counted = select(Delivery.c.issue_id, literal(0), *states).group_by(Delivery.c.issue_id)
    names = ["issue_id", "slot", *(state.value for state in DeliveryState)]
    connection.execute(insert(RunningTotal).from_select(names, counted))
