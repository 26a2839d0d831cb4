"""The named values that an installation stores about itself."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from mailer.database.tables import Instance


def value(connection: Connection, name: str) -> str | None:
    """Return a value, or None."""
    return connection.scalar(select(Instance.c.value).where(Instance.c.name == name))


def set_value(connection: Connection, name: str, value: str) -> None:
    """Store a value. If two processes first store it at the same time, the second gets `IntegrityError`."""
    if not connection.execute(update(Instance).where(Instance.c.name == name).values(value=value)).rowcount:
        connection.execute(insert(Instance).values(name=name, value=value))
