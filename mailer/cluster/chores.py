"""Chores: the periodic work of a worker other than sending issues."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, select, text

from mailer.database.engine import Database
from mailer.database.tables import Instance

_NOTE_SECONDS: Final = 60.0
_PREFIX: Final = "done "
_NOTE: Final = text(
    "INSERT INTO instance (name, value) VALUES (:name, :at) ON CONFLICT (name) DO UPDATE SET value = :at"
)


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that is safe to repeat."""

    name: str
    every_seconds: int
    do: Callable[[], object]
    stop: Callable[[], object] = lambda: None
    """Asks `do` to end soon."""
    priority: int = 0
    """Of chores that wait, the one with the highest number is done first."""

    @property
    def cron(self) -> str:
        """When it is due, as a cron expression; the sixth field is for seconds."""
        minutes, hours = self.every_seconds // 60, self.every_seconds // 3600
        if not minutes:
            return f"* * * * * */{self.every_seconds}"
        if not hours:
            return f"*/{minutes} * * * *"
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"


def recorded(chore: Chore, database: Database) -> Chore:
    """Return a chore that also stores when it last succeeded, at most once a minute."""
    noted = -_NOTE_SECONDS

    def do() -> object:
        nonlocal noted
        done = chore.do()
        if time.monotonic() - noted >= _NOTE_SECONDS:
            values = {"name": f"{_PREFIX}{chore.name}", "at": datetime.now(UTC).isoformat()}
            with database.transaction() as connection:
                connection.execute(_NOTE, values)
            noted = time.monotonic()
        return done

    return replace(chore, do=do)


def last_done(connection: Connection) -> dict[str, datetime]:
    """Return when each chore last succeeded, by name."""
    rows = connection.execute(
        select(Instance.c.name, Instance.c.value)
        .where(Instance.c.name.startswith(_PREFIX))
        .order_by(Instance.c.name)
    )
    return {name.removeprefix(_PREFIX): datetime.fromisoformat(at) for name, at in rows}
