"""The books of an issue: how many of its deliveries are in each state."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.database import running_totals
from mailer.database.models import Delivery, DeliveryState, IssueState
from mailer.database.session import Database


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


def books_of(session: Session, issue_id: int) -> Books:
    """Count an issue's deliveries by state, in one pass."""
    # Not GROUP BY: SQLite would sort a million rows in memory for it.
    counts = [func.count().filter(Delivery.state == state.value) for state in DeliveryState]
    row = session.execute(select(func.count(), *counts).where(Delivery.issue_id == issue_id)).one()
    audience, *parts = (int(number) for number in row)
    return Books(audience, **dict(zip(DeliveryState, parts, strict=True)))


def running_books(session: Session, issue_id: int) -> Books:
    """Return the same from the running totals, which takes no longer for a large issue."""
    totals = running_totals.totals_of(session, issue_id)
    return Books(sum(totals.values()), **totals)


def newest_books(database: Database, issue_id: int) -> tuple[IssueState | None, Books]:
    """Return an issue's state and books, as of the newest commit; the state is None if it was withdrawn.

    As fast as a page needs that looks twice a second.
    """
    state, totals = running_totals.newest(database, issue_id)
    return state, Books(sum(totals.values()), **totals)
