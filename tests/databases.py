"""Empty SQLite databases, copied from one: running the migrations takes longer than most tests."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import delete, func, insert, literal, select
from sqlalchemy.orm import Session

from mailer.database.models import Delivery, DeliveryState, RunningTotal
from mailer.database.session import Database

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


def recount(session: Session) -> None:
    """Set the running totals to what counting finds, after a test changed deliveries by hand."""
    session.flush()
    session.execute(delete(RunningTotal))
    states = [func.count().filter(Delivery.state == state.value) for state in DeliveryState]
    counted = select(Delivery.issue_id, literal(0), *states).group_by(Delivery.issue_id)
    names = ["issue_id", "slot", *(state.value for state in DeliveryState)]
    session.execute(insert(RunningTotal).from_select(names, counted))
