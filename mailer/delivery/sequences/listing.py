"""Figures about sequences: people who wait or have finished, and the results of each step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from mailer.database.models import Event, SequenceMember, StoredSequence
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


def listed(session: Session) -> list[SequenceLine]:
    """Return the stored sequences by name."""
    found = []
    for stored in session.scalars(select(StoredSequence).order_by(StoredSequence.name)):
        ours = SequenceMember.sequence_id == stored.id
        rows = session.execute(
            select(SequenceMember.why, func.count()).where(ours).group_by(SequenceMember.why)
        )
        ended = {why: number for why, number in rows if why != "before"}
        under_way = ended.pop("", 0)
        found.append(
            SequenceLine(
                stored.name,
                stored.trigger,
                len(steps_of(session, stored.id)),
                stored.paused_at,
                under_way,
                ended,
            )
        )
    return found


def steps(session: Session, sequence_id: int) -> list[StepLine]:
    """Return the numbers of each step, in their order."""
    found = []
    for step in steps_of(session, sequence_id):
        waiting = select(func.count()).where(SequenceMember.next_step_id == step.id)
        clicked = select(func.count(distinct(Event.subscriber_id))).where(
            Event.issue_id == step.issue_id,
            Event.kind == "click",
            Event.details["machine"].as_string().is_(None),
        )
        found.append(
            StepLine(
                step.name,
                issues.get(session, step.issue_id).slug,
                session.scalar(waiting) or 0,
                books_of(session, step.issue_id),
                session.scalar(clicked) or 0,
            )
        )
    return found
