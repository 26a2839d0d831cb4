"""The letters that wait: what one person is told because of something they did.

A letter is a row until a relay has taken it, so a relay that is away, or a server that is stopped,
delays it and loses nothing. That it was asked for, and what became of it, stays as an event, which is
also how one letter a day is told from two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from mailer.database.models import Event, Subscriber, SubscriberStatus, WaitingLetter
from mailer.rendering.message import Recipient

_S = SubscriberStatus
_MAX_SAID: Final = 512


class LetterKind(StrEnum):
    """What a letter is about: the file of `email_templates/letters/` that it is made from."""

    CONFIRMATION = "confirmation"
    WELCOME = "welcome"
    GOODBYE = "goodbye"


# Where somebody must still stand when the letter leaves.
_APT: Final = {
    LetterKind.CONFIRMATION: frozenset({_S.PENDING, _S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED}),
    LetterKind.WELCOME: frozenset({_S.ACTIVE}),
    LetterKind.GOODBYE: frozenset({_S.UNSUBSCRIBED}),
}


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter that was claimed: whoever holds it sends it, then settles it or lets it wait."""

    id: int
    kind: LetterKind
    language: str
    recipient: Recipient
    domain: str
    asked_at: datetime
    """Dates the message and makes its Message-ID, so that a second try repeats the first."""
    attempts: int
    """Tries, this one included."""


def put(session: Session, subscriber_id: int, kind: LetterKind, *, at: datetime, language: str = "") -> None:
    """Let a letter to a subscriber wait; whoever sends letters takes it from here.

    `language` is what they are spoken to in where the letter has it; empty is the newsletter's.
    """
    session.add(
        WaitingLetter(subscriber_id=subscriber_id, kind=kind.value, language=language, asked_at=at, due_at=at)
    )
    session.add(Event(at=at, kind=kind.value, subscriber_id=subscriber_id, details={"letter": "waits"}))
    session.flush()


def asked_since(session: Session, subscriber_id: int, kind: LetterKind, *, since: datetime) -> bool:
    """Return whether such a letter was asked for after `since`."""
    wanted = select(Event.id).where(
        Event.subscriber_id == subscriber_id, Event.kind == kind.value, Event.at > since
    )
    return session.scalar(wanted.limit(1)) is not None


def claim(session: Session, *, limit: int, at: datetime, hold: timedelta) -> list[Letter]:
    """Take up to `limit` letters that are due; nobody else gets them before `hold` has passed.

    What its reader no longer needs is dropped: who has confirmed, come back or been erased meanwhile.
    """
    rows = session.execute(
        select(WaitingLetter, Subscriber)
        .join(Subscriber, Subscriber.id == WaitingLetter.subscriber_id)
        .where(WaitingLetter.due_at <= at)
        .order_by(WaitingLetter.due_at, WaitingLetter.id)
        .limit(limit)
        .with_for_update(of=WaitingLetter, skip_locked=True)
    ).all()
    letters: list[Letter] = []
    for waiting, person in rows:
        kind = LetterKind(waiting.kind)
        if SubscriberStatus(person.status) not in _APT[kind]:
            session.delete(waiting)
            continue
        waiting.due_at, waiting.attempts = at + hold, waiting.attempts + 1
        letters.append(
            Letter(
                id=waiting.id,
                kind=kind,
                language=waiting.language,
                recipient=Recipient(
                    subscriber_id=person.id,
                    email=person.address,
                    name=person.name,
                    attributes=person.attributes,
                ),
                domain=person.domain,
                asked_at=waiting.asked_at,
                attempts=waiting.attempts,
            )
        )
    session.flush()
    return letters


def settle(session: Session, letter: Letter, said: str) -> None:
    """Forget a letter that has left; what the server said is told of the person."""
    session.execute(delete(WaitingLetter).where(WaitingLetter.id == letter.id))
    _tell(session, letter, f"sent, {said}")


def wait(session: Session, letter: Letter, said: str, *, until: datetime) -> None:
    """Let a letter that nobody took wait until then."""
    session.execute(update(WaitingLetter).where(WaitingLetter.id == letter.id).values(due_at=until))
    _tell(session, letter, f"waits, {said}")


def give_up(session: Session, letter: Letter, said: str) -> None:
    """Drop a letter that never left. It does not count as asked for, so the person can ask again."""
    session.execute(delete(WaitingLetter).where(WaitingLetter.id == letter.id))
    _tell(session, letter, f"given up, {said}", kind=f"no {letter.kind.value}")


def _tell(session: Session, letter: Letter, said: str, *, kind: str = "") -> None:
    """Bring the event that a letter is up to date."""
    session.execute(
        update(Event)
        .where(
            Event.subscriber_id == letter.recipient.subscriber_id,
            Event.kind == letter.kind.value,
            Event.at == letter.asked_at,
        )
        .values(kind=kind or letter.kind.value, details={"letter": said[:_MAX_SAID]})
    )
