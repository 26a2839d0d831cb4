"""Corrections by the operator: lift a wrong suppression, undo a removal.

Opt-outs and complaints by the person are never undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, aliased

from mailer.audience.ledger import add_note, correct, lift
from mailer.audience.transitions import REMOVAL_CAN_BE_UNDONE, RESTORE, SUPPRESSES, Move, Origin
from mailer.database.among import among
from mailer.database.models import NO_SOFT_BOUNCES, Consent, Subscriber, SubscriberStatus, Suppression

_S = SubscriberStatus
_AT_ONCE: Final = 5_000
_BOUNCE: Final = SUPPRESSES[_S.BOUNCED]
_PEOPLE: Final = (
    select(Subscriber.id, Subscriber.status, Subscriber.address_key, Suppression.reason)
    .outerjoin(Suppression, Suppression.address_key == Subscriber.address_key)
    .where(among(Subscriber.id, "ids"))
    .order_by(Subscriber.id)
    .with_for_update(of=Subscriber)
)
_LINES: Final = (
    select(Consent.subscriber_id, Consent.at, Consent.before, Consent.after, Consent.way, Consent.import_id)
    .where(among(Consent.subscriber_id, "ids"))
    .order_by(Consent.id)
)


@dataclass(frozen=True, slots=True)
class Restoration:
    """The result of a correction for one subscriber: the new status, or why it was refused."""

    subscriber_id: int
    status: SubscriberStatus | None
    refusal: str = ""


class _PersonRow(NamedTuple):
    id: int
    status: str
    address_key: str
    reason: str | None


class _Line(NamedTuple):
    subscriber_id: int
    at: datetime
    before: str
    after: str
    way: str
    import_id: int | None


def restore(
    session: Session, subscriber_ids: Sequence[int], *, reason: str, at: datetime, dry_run: bool = False
) -> list[Restoration]:
    """Lift wrong suppressions, and undo removals of the last day; `reason` goes into the ledger.

    People get their previous status back, so someone who never confirmed is pending again. Their soft
    bounces are reset. People who unsubscribed or complained are not restored. Neither are people recorded
    as bounced by an import: revert the import instead.
    """
    done: list[Restoration] = []
    ids = sorted(set(subscriber_ids))
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        done += _restore(session, part, Origin(RESTORE, note=reason), at, dry_run=dry_run)
    return done


def _restore(
    session: Session, ids: Sequence[int], origin: Origin, at: datetime, *, dry_run: bool
) -> list[Restoration]:
    people = [_PersonRow(*row) for row in session.execute(_PEOPLE, {"ids": ids})]
    lines: dict[int, list[_Line]] = {}
    for line in (_Line(*row) for row in session.execute(_LINES, {"ids": ids})):
        lines.setdefault(line.subscriber_id, []).append(line)
    decided = [_decide(person, lines.get(person.id, []), at) for person in people]
    if dry_run:
        return decided
    keys = {person.id: person for person in people}
    moves: list[Move] = []
    for one in decided:
        if one.status is None:
            continue
        if keys[one.subscriber_id].status == one.status.value:
            add_note(session, one.subscriber_id, one.status, origin=origin, at=at)
        else:
            moves.append(Move(one.subscriber_id, one.status, origin, at))
    correct(session, moves)
    restored = [one.subscriber_id for one in decided if one.status is not None]
    lift(session, [keys[one].address_key for one in restored])
    if restored:
        session.execute(update(Subscriber).where(Subscriber.id.in_(restored)).values(**NO_SOFT_BOUNCES))
    return decided


def _decide(person: _PersonRow, lines: Sequence[_Line], at: datetime) -> Restoration:
    """Return the allowed correction for one person, given all their ledger lines, oldest first."""
    status = SubscriberStatus(person.status)
    last_change = next((line for line in reversed(lines) if line.before != line.after), None)
    if person.reason not in (None, _BOUNCE):
        return Restoration(person.id, None, f"suppressed for another reason: {person.reason}")
    match status:
        case _S.BOUNCED if last_change is not None:
            if last_change.import_id is not None:
                return Restoration(
                    person.id,
                    None,
                    f"recorded as bounced by import {last_change.import_id}; use mailer subscribers revert",
                )
            return Restoration(person.id, SubscriberStatus(last_change.before))
        case _S.UNSUBSCRIBED if lines and lines[-1] is last_change and last_change.way == "command":
            if at - last_change.at > REMOVAL_CAN_BE_UNDONE:
                return Restoration(person.id, None, "removed more than a day ago")
            return Restoration(person.id, SubscriberStatus(last_change.before))
        case _S.ACTIVE | _S.PENDING:
            if person.reason is None:
                return Restoration(person.id, None, "neither suppressed nor removed")
            return Restoration(person.id, status)
        case _S.ERASED:
            return Restoration(person.id, None, "erased")
        case _:
            return Restoration(person.id, None, f"{status.value}; only the person can come back")


def bounced_ids(
    session: Session, *, issue_id: int | None = None, bounce_class: str = "", since: datetime | None = None
) -> list[int]:
    """Return the subscribers who bounced from an issue, with a class of bounce, or since an instant.

    The class is the first word of the note in the ledger.
    """
    line = aliased(Consent)
    last = (
        select(func.max(line.id))
        .where(line.subscriber_id == Subscriber.id, line.before != line.after)
        .scalar_subquery()
    )
    wanted = (
        select(Subscriber.id)
        .join(Consent, Consent.id == last)
        .where(
            Subscriber.status == _S.BOUNCED.value,
            Consent.after == _S.BOUNCED.value,
            Consent.import_id.is_(None),
        )
        .order_by(Subscriber.id)
    )
    if issue_id is not None:
        wanted = wanted.where(Consent.issue_id == issue_id)
    if bounce_class:
        wanted = wanted.where(Consent.note.startswith(f"{bounce_class}:", autoescape=True))
    if since is not None:
        wanted = wanted.where(Consent.at >= since)
    return list(session.scalars(wanted))
