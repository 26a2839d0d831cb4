"""Which rows an act changes: whatever it leaves out of a condition, or does not write, shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from mailer.database.engine import Database
from mailer.database.tables import every_table
from mailer.webhooks import endpoints

Changes = dict[str, list[int]]
"""By table and what changed, such as `deliveries: changed_at state=sent` or `issues: added`: the rows, by the
id of their subscriber or else by the last part of their key, which is 0 if it is no number.
`webhook_events: added issue.paused` is what an endpoint that wants everything is told."""
_SHOWN = ("state", "status", "canary")
_LEFT_OUT = ("instance", "running_totals", "webhook_deliveries")
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


def changes(database: Database, act: Callable[[Connection], object], *, kept: int | None = None) -> Changes:
    """Do something in one transaction and return what it changed; no row may be of the issue `kept`."""
    with database.transaction() as connection:
        endpoints.add(connection, "https://hooks.example.org", [], at=_BEGINNING)
    before = _rows(database)
    with database.transaction() as connection:
        act(connection)
    after = _rows(database)
    found: dict[str, list[int]] = defaultdict(list)
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        row = new or old or {}
        assert kept is None or row.get("issue_id") != kept, (key, old, new)
        name = row.get("subscriber_id") or key[1][-1]
        found[f"{key[0]}: {_said(old, new)}"].append(name if isinstance(name, int) else 0)
    return {what: sorted(rows) for what, rows in found.items()}


def _rows(database: Database) -> dict[tuple[str, tuple[Any, ...]], dict[str, Any]]:
    with database.reading() as connection:
        return {
            (table.name, tuple(row[column.name] for column in table.primary_key)): dict(row)
            for table in every_table().sorted_tables
            if table.name not in _LEFT_OUT
            for row in connection.execute(select(table)).mappings()
        }


def _said(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    if new is None:
        return "removed"
    if old is None:
        return " ".join(["added", *([new["type"]] if "type" in new else [])])
    changed = [name for name in sorted(new) if old[name] != new[name]]
    return " ".join(f"{name}={new[name]}" if name in _SHOWN else name for name in changed)
