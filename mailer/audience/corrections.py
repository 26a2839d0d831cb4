"""Corrections by the operator: lift a wrong suppression, undo a removal.

Opt-outs and complaints by the person are never undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, func, select, update

from mailer.audience.ledger import add_note, correct, lift
from mailer.audience.transitions import REMOVAL_CAN_BE_UNDONE, RESTORE, SUPPRESSES, Move, Origin
from mailer.database.among import among
from mailer.database.tables import NO_SOFT_BOUNCES, Consent, Subscriber, SubscriberStatus, Suppression

_S = SubscriberStatus
_AT_ONCE: Final = 5_000
_BOUNCE: Final = SUPPRESSES[_S.BOUNCED]
_PEOPLE: Final = (
    select(Subscriber.c.id, Subscriber.c.status, Subscriber.c.address_key, Suppression.c.reason)
    .outerjoin(Suppression, Suppression.c.address_key == Subscriber.c.address_key)
    .where(among(Subscriber.c.id, "ids"))
    .order_by(Subscriber.c.id)
    .with_for_update(of=Subscriber)
)
_LINES: Final = (
    select(
        Consent.c.subscriber_id,
        Consent.c.at,
        Consent.c.before,
        Consent.c.after,
        Consent.c.way,
        Consent.c.import_id,
    )
    .where(among(Consent.c.subscriber_id, "ids"))
    .order_by(Consent.c.id)
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
    connection: Connection, subscriber_ids: Sequence[int], *, reason: str, at: datetime, dry_run: bool = False
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
        done += _restore(connection, part, Origin(RESTORE, note=reason), at, dry_run=dry_run)
    return done


def _restore(
    connection: Connection, ids: Sequence[int], origin: Origin, at: datetime, *, dry_run: bool
) -> list[Restoration]:
    people = [_PersonRow(*row) for row in connection.execute(_PEOPLE, {"ids": ids})]
    lines: dict[int, list[_Line]] = {}
    for line in (_Line(*row) for row in connection.execute(_LINES, {"ids": ids})):
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
            add_note(connection, one.subscriber_id, one.status, origin=origin, at=at)
        else:
            moves.append(Move(one.subscriber_id, one.status, origin, at))
    correct(connection, moves)
    restored = [one.subscriber_id for one in decided if one.status is not None]
    lift(connection, [keys[one].address_key for one in restored])
    if restored:
        connection.execute(update(Subscriber).where(Subscriber.c.id.in_(restored)).values(**NO_SOFT_BOUNCES))
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
    connection: Connection,
    *,
    issue_id: int | None = None,
    bounce_class: str = "",
    since: datetime | None = None,
) -> list[int]:
    """Return the subscribers who bounced from an issue, with a class of bounce, or since an instant.

    The class is the first word of the note in the ledger.
    """
    line = Consent.alias().c
    last = (
        select(func.max(line.id))
        .where(line.subscriber_id == Subscriber.c.id, line.before != line.after)
        .scalar_subquery()
    )
    wanted = (
        select(Subscriber.c.id)
        .select_from(Subscriber)
        .join(Consent, Consent.c.id == last)
        .where(
            Subscriber.c.status == _S.BOUNCED.value,
            Consent.c.after == _S.BOUNCED.value,
            Consent.c.import_id.is_(None),
        )
        .order_by(Subscriber.c.id)
    )
    if issue_id is not None:
        wanted = wanted.where(Consent.c.issue_id == issue_id)
    if bounce_class:
        wanted = wanted.where(Consent.c.note.startswith(f"{bounce_class}:", autoescape=True))
    if since is not None:
        wanted = wanted.where(Consent.c.at >= since)
    return list(connection.scalars(wanted))
