"""Changes that subscribers make on their own page. Each adds a line to the ledger."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from mailer.audience.fields import check_name
from mailer.audience.ledger import add_note, change_status
from mailer.audience.transitions import PERSONAL_WAYS, Origin
from mailer.database.models import (
    Consent,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
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


def standing(session: Session, subscriber_id: int) -> Standing | None:
    """Return a subscriber's settings, or None if there is no such subscriber or they were erased."""
    known = _known(session, subscriber_id)
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
        tags=_tags(session, subscriber_id),
    )


def resubscribe(session: Session, subscriber_id: int, *, origin: Origin, at: datetime) -> bool:
    """Make someone who unsubscribed active again; return whether the status changed.

    People who bounced or complained must confirm by email instead.
    """
    known = _known(session, subscriber_id)
    if known is None or known.status != SubscriberStatus.UNSUBSCRIBED:
        return False
    return change_status(session, subscriber_id, SubscriberStatus.ACTIVE, origin=origin, at=at)


def rename(session: Session, subscriber_id: int, name: str, *, origin: Origin, at: datetime) -> bool:
    """Change a subscriber's name; return whether it changed. Raises `AddressError` for a bad name.

    The name is not written to the ledger, so that nothing is left of a name that someone removed.
    """
    name, known = check_name(name), _known(session, subscriber_id)
    if known is None or known.name == name:
        return False
    known.name, known.changed_at = name, at
    _write(session, known, "name changed", origin, at)
    return True


def choose_tags(
    session: Session,
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
    known = _known(session, subscriber_id)
    if known is None:
        return False
    before, wanted = _tags(session, subscriber_id) & set(offered), set(chosen) & set(offered)
    added, taken = sorted(wanted - before), sorted(before - wanted)
    if not added and not taken:
        return False
    session.add_all(SubscriberTag(subscriber_id=subscriber_id, tag=tag) for tag in added)
    session.execute(
        delete(SubscriberTag).where(
            SubscriberTag.subscriber_id == subscriber_id, SubscriberTag.tag.in_(taken)
        )
    )
    known.changed_at = at
    changes = [f"+{tag}" for tag in added] + [f"-{tag}" for tag in taken]
    _write(session, known, f"tags: {', '.join(changes)}", origin, at)
    return True


def allow_tracking(
    session: Session, subscriber_id: int, allowed: bool, *, origin: Origin, at: datetime
) -> bool:
    """Allow or forbid recording a subscriber's clicks and opens; return whether that changed."""
    known = _known(session, subscriber_id)
    if known is None or known.tracking_consent == allowed:
        return False
    known.tracking_consent, known.changed_at = allowed, at
    known.tracking_since = at if allowed else None
    _write(session, known, "tracking allowed" if allowed else "tracking forbidden", origin, at)
    return True


def pause(
    session: Session, subscriber_id: int, until: datetime | None, *, origin: Origin, at: datetime
) -> bool:
    """Pause an active subscriber until an instant, or end the pause (None); return whether that changed."""
    known = _known(session, subscriber_id)
    if known is None or known.status != SubscriberStatus.ACTIVE or known.paused_until == until:
        return False
    known.paused_until, known.changed_at = until, at
    _write(session, known, f"paused until {until:%Y-%m-%d}" if until else "pause ended", origin, at)
    return True


def reason_note(reason: str) -> str:
    """Return the ledger note for a reason to unsubscribe; empty for no reason."""
    return f"{_REASON}{reason}" if reason else ""


def give_reason(session: Session, subscriber_id: int, reason: str, *, origin: Origin, at: datetime) -> bool:
    """Record why someone unsubscribed, once each time; return whether it was recorded."""
    known = _known(session, subscriber_id)
    if known is None or known.status != SubscriberStatus.UNSUBSCRIBED:
        return False
    theirs = Consent.subscriber_id == subscriber_id
    left = select(func.max(Consent.id)).where(theirs, Consent.before != Consent.after).scalar_subquery()
    given = select(Consent.id).where(theirs, Consent.id >= left, Consent.note.startswith(_REASON))
    if session.scalar(given.limit(1)) is not None:
        return False
    _write(session, known, reason_note(reason), origin, at)
    return True


def unsubscribe_reasons(session: Session) -> UnsubscribeReasons:
    """Count the people who unsubscribed themselves, by reason. Reasons cleared by retention count as none."""
    by_person = Consent.after == SubscriberStatus.UNSUBSCRIBED, Consent.way.in_(PERSONAL_WAYS)
    count = session.scalar(select(func.count()).where(*by_person, Consent.before != Consent.after))
    rows = session.execute(
        select(Consent.note, func.count())
        .where(*by_person, Consent.note.startswith(_REASON))
        .group_by(Consent.note)
        .order_by(func.count().desc(), Consent.note)
    )
    return UnsubscribeReasons(count or 0, {note.removeprefix(_REASON): number for note, number in rows})


def _known(session: Session, subscriber_id: int) -> Subscriber | None:
    known = session.get(Subscriber, subscriber_id)
    return None if known is None or known.status == SubscriberStatus.ERASED else known


def _tags(session: Session, subscriber_id: int) -> frozenset[str]:
    wanted = select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == subscriber_id)
    return frozenset(session.scalars(wanted))


def _write(session: Session, known: Subscriber, note: str, origin: Origin, at: datetime) -> None:
    session.flush()
    add_note(session, known.id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at)
