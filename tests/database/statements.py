"""The statements that a block of code executes, and those among them that read a whole issue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from mailer.database.engine import Database


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect the statements of the block with their values, also those of `Database.look`."""
    said: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        said.append((statement, values[0] if many else values))

    event.listen(database.engine, "before_cursor_execute", note)
    watching = None if database.path is None else database._watching(database.path)._connection
    if watching is not None:
        # SQLite gives the statement with its values in place.
        watching.set_trace_callback(lambda statement: said.append((statement, ())))
    try:
        yield said
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
        if watching is not None:
            watching.set_trace_callback(None)


def whole_issue_searches(database: Database, said: list[tuple[str, Any]]) -> list[str]:
    """Return those statements whose plan looks at every delivery of an issue, or of all."""
    found = []
    with database.engine.connect() as connection:
        for statement, values in said:
            if not statement.startswith(("SELECT", "UPDATE")):
                continue
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            steps = [str(row[3]) for row in plan]
            if any(
                step.startswith("SCAN deliveries")
                or step == "SEARCH deliveries USING PRIMARY KEY (issue_id=?)"
                for step in steps
            ):
                found.append(f"{statement}\n{steps}")
    return found
