"""The books of an issue: how many of its deliveries are in each state."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, select

from mailer.database import running_totals
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, IssueState


@dataclass(frozen=True, slots=True)
class Books:
    """The number of an issue's deliveries in each state."""

    audience: int
    queued: int
    sending: int
    sent: int
    deferred: int
    failed: int
    uncertain: int
    skipped: int

    @property
    def balanced(self) -> bool:
        """Whether the parts add up to the audience."""
        parts: int = sum(getattr(self, state) for state in DeliveryState)
        return self.audience == parts

    @property
    def open(self) -> int:
        """The deliveries that may still be sent."""
        return self.queued + self.sending + self.deferred + self.uncertain

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name, the audience first."""
        return asdict(self)


def books_of(connection: Connection, issue_id: int) -> Books:
    """Count an issue's deliveries by state, in one pass."""
    # Not GROUP BY: SQLite would sort a million rows in memory for it.
    counts = [func.count().filter(Delivery.c.state == state.value) for state in DeliveryState]
    row = connection.execute(select(func.count(), *counts).where(Delivery.c.issue_id == issue_id)).one()
    audience, *parts = (int(number) for number in row)
    return Books(audience, **dict(zip(DeliveryState, parts, strict=True)))


def running_books(connection: Connection, issue_id: int) -> Books:
    """Return the same from the running totals, which takes no longer for a large issue."""
    totals = running_totals.totals_of(connection, issue_id)
    return Books(sum(totals.values()), **totals)


def newest_books(database: Database, issue_id: int) -> tuple[IssueState | None, Books]:
    """Return an issue's state and books, as of the newest commit; the state is None if it was withdrawn.

    Fast enough for a page that looks twice a second.
    """
    state, totals = running_totals.newest(database, issue_id)
    return state, Books(sum(totals.values()), **totals)
