"""Changes that subscribers make on their own page. Each adds a line to the ledger."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, update

from mailer.audience.fields import check_name
from mailer.audience.ledger import add_note, change_status
from mailer.audience.subscribers import insert_tags
from mailer.audience.transitions import PERSONAL_WAYS, Origin
from mailer.database.tables import (
    Consent,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    TableRow,
)

_REASON: Final = "reason: "


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscriber's settings, as their own page shows them."""

    id: int
    address: str
    address_key: str
    name: str
    status: SubscriberStatus
    changed_at: datetime
    paused_until: datetime | None
    tracking_consent: bool
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class UnsubscribeReasons:
    """How many people unsubscribed themselves, and how many gave each reason, most frequent first."""

    count: int
    reasons: dict[str, int]

    @property
    def silent(self) -> int:
        """How many gave no reason."""
        return self.count - sum(self.reasons.values())


def standing(connection: Connection, subscriber_id: int) -> Standing | None:
    """Return a subscriber's settings, or None if there is no such subscriber or they were erased."""
    known = _known(connection, subscriber_id)
    if known is None:
        return None
    return Standing(
        id=known.id,
        address=known.address,
        address_key=known.address_key,
        name=known.name,
        status=SubscriberStatus(known.status),
        changed_at=known.changed_at,
        paused_until=known.paused_until,
        tracking_consent=known.tracking_consent,
        tags=_tags(connection, subscriber_id),
    )


def resubscribe(connection: Connection, subscriber_id: int, *, origin: Origin, at: datetime) -> bool:
    """Make someone who unsubscribed active again; return whether the status changed.

    People who bounced or complained must confirm by email instead.
    """
    known = _known(connection, subscriber_id)
    if known is None or known.status != SubscriberStatus.UNSUBSCRIBED:
        return False
    return change_status(connection, subscriber_id, SubscriberStatus.ACTIVE, origin=origin, at=at)


def rename(connection: Connection, subscriber_id: int, name: str, *, origin: Origin, at: datetime) -> bool:
    """Change a subscriber's name; return whether it changed. Raises `AddressError` for a bad name.

    The name is not written to the ledger, so that nothing is left of a name that someone removed.
    """
    name, known = check_name(name), _known(connection, subscriber_id)
    if known is None or known.name == name:
        return False
    _change(connection, known, "name changed", origin, at, name=name)
    return True


def choose_tags(
    connection: Connection,
    subscriber_id: int,
    chosen: Collection[str],
    *,
    offered: Collection[str],
    origin: Origin,
    at: datetime,
) -> bool:
    """Set which of the offered tags a subscriber has; return whether anything changed.

    Tags that were not offered stay as they are.
    """
    known = _known(connection, subscriber_id)
    if known is None:
        return False
    before, wanted = _tags(connection, subscriber_id) & set(offered), set(chosen) & set(offered)
    added, taken = sorted(wanted - before), sorted(before - wanted)
    if not added and not taken:
        return False
    insert_tags(connection, subscriber_id, added)
    connection.execute(
        delete(SubscriberTag).where(
            SubscriberTag.c.subscriber_id == subscriber_id, SubscriberTag.c.tag.in_(taken)
        )
    )
    changes = [f"+{tag}" for tag in added] + [f"-{tag}" for tag in taken]
    _change(connection, known, f"tags: {', '.join(changes)}", origin, at)
    return True


def allow_tracking(
    connection: Connection, subscriber_id: int, allowed: bool, *, origin: Origin, at: datetime
) -> bool:
    """Allow or forbid recording a subscriber's clicks and opens; return whether that changed."""
    known = _known(connection, subscriber_id)
    if known is None or known.tracking_consent == allowed:
        return False
    _change(
        connection,
        known,
        "tracking allowed" if allowed else "tracking forbidden",
        origin,
        at,
        tracking_consent=allowed,
        tracking_since=at if allowed else None,
    )
    return True


def pause(
    connection: Connection, subscriber_id: int, until: datetime | None, *, origin: Origin, at: datetime
) -> bool:
    """Pause an active subscriber until an instant, or end the pause (None); return whether that changed."""
    known = _known(connection, subscriber_id)
    if known is None or known.status != SubscriberStatus.ACTIVE or known.paused_until == until:
        return False
    note = f"paused until {until:%Y-%m-%d}" if until else "pause ended"
    _change(connection, known, note, origin, at, paused_until=until)
    return True


def reason_note(reason: str) -> str:
    """Return the ledger note for a reason to unsubscribe; empty for no reason."""
    return f"{_REASON}{reason}" if reason else ""


def give_reason(
    connection: Connection, subscriber_id: int, reason: str, *, origin: Origin, at: datetime
) -> bool:
    """Record why someone unsubscribed, once each time; return whether it was recorded."""
    known = _known(connection, subscriber_id)
    if known is None or known.status != SubscriberStatus.UNSUBSCRIBED:
        return False
    theirs = Consent.c.subscriber_id == subscriber_id
    left = select(func.max(Consent.c.id)).where(theirs, Consent.c.before != Consent.c.after).scalar_subquery()
    given = select(Consent.c.id).where(theirs, Consent.c.id >= left, Consent.c.note.startswith(_REASON))
    if connection.scalar(given.limit(1)) is not None:
        return False
    _note(connection, known, reason_note(reason), origin, at)
    return True


def unsubscribe_reasons(connection: Connection) -> UnsubscribeReasons:
    """Count the people who unsubscribed themselves, by reason. Reasons cleared by retention count as none."""
    by_person = Consent.c.after == SubscriberStatus.UNSUBSCRIBED, Consent.c.way.in_(PERSONAL_WAYS)
    count = connection.scalar(select(func.count()).where(*by_person, Consent.c.before != Consent.c.after))
    rows = connection.execute(
        select(Consent.c.note, func.count())
        .where(*by_person, Consent.c.note.startswith(_REASON))
        .group_by(Consent.c.note)
        .order_by(func.count().desc(), Consent.c.note)
    )
    return UnsubscribeReasons(count or 0, {note.removeprefix(_REASON): number for note, number in rows})


def _known(connection: Connection, subscriber_id: int) -> TableRow | None:
    known = connection.execute(select(Subscriber).where(Subscriber.c.id == subscriber_id)).one_or_none()
    return None if known is None or known.status == SubscriberStatus.ERASED else known


def _tags(connection: Connection, subscriber_id: int) -> frozenset[str]:
    wanted = select(SubscriberTag.c.tag).where(SubscriberTag.c.subscriber_id == subscriber_id)
    return frozenset(connection.scalars(wanted))


def _change(
    connection: Connection, known: TableRow, note: str, origin: Origin, at: datetime, **values: object
) -> None:
    connection.execute(update(Subscriber).where(Subscriber.c.id == known.id).values(changed_at=at, **values))
    _note(connection, known, note, origin, at)


def _note(connection: Connection, known: TableRow, note: str, origin: Origin, at: datetime) -> None:
    add_note(connection, known.id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at)
