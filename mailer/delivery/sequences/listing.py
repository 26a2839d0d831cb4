"""Figures about sequences: people who wait or have finished, and the results of each step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, distinct, func, select

from mailer.database.tables import Event, SequenceMember, StoredSequence
from mailer.delivery import issues
from mailer.delivery.books import Books, books_of
from mailer.delivery.sequences.looking import steps_of


@dataclass(frozen=True, slots=True)
class SequenceLine:
    """One sequence in the list."""

    name: str
    trigger: str
    steps: int
    paused_at: datetime | None
    under_way: int
    """How many people are in it."""
    ended: dict[str, int]
    """How many have finished, left or reached the goal."""


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step."""

    name: str
    issue: str
    waiting: int
    """How many people it is the next step for."""
    books: Books
    clicked: int
    """How many people clicked, of those who have agreed to tracking."""

    def as_dict(self) -> dict[str, object]:
        """Return the step as JSON has it."""
        return asdict(self)


def listed(connection: Connection) -> list[SequenceLine]:
    """Return the stored sequences by name."""
    found = []
    for stored in connection.execute(select(StoredSequence).order_by(StoredSequence.c.name)):
        ours = SequenceMember.c.sequence_id == stored.id
        rows = connection.execute(
            select(SequenceMember.c.why, func.count()).where(ours).group_by(SequenceMember.c.why)
        )
        ended = {why: number for why, number in rows if why != "before"}
        under_way = ended.pop("", 0)
        found.append(
            SequenceLine(
                stored.name,
                stored.trigger,
                len(steps_of(connection, stored.id)),
                stored.paused_at,
                under_way,
                ended,
            )
        )
    return found


def steps(connection: Connection, sequence_id: int) -> list[StepLine]:
    """Return the numbers of each step, in their order."""
    found = []
    for step in steps_of(connection, sequence_id):
        waiting = select(func.count()).where(SequenceMember.c.next_step_id == step.id)
        clicked = select(func.count(distinct(Event.c.subscriber_id))).where(
            Event.c.issue_id == step.issue_id,
            Event.c.kind == "click",
            Event.c.details["machine"].as_string().is_(None),
        )
        found.append(
            StepLine(
                step.name,
                issues.get(connection, step.issue_id).slug,
                connection.scalar(waiting) or 0,
                books_of(connection, step.issue_id),
                connection.scalar(clicked) or 0,
            )
        )
    return found
