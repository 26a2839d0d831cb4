"""Where a subscriber stands, and the one place that decides who may go where.

Each change is a line in the consent ledger, written in the same transaction. The way matters: what a
person said is undone only by the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience import suppression, wordings
from mailer.audience.fields import check_attributes, check_name, check_tags
from mailer.database.among import among
from mailer.database.models import Consent, Subscriber, SubscriberStatus, SubscriberTag
from mailer.database.rows import insert_rows

_S = SubscriberStatus

# Acts of the person alone, from a page or a mail that only they have.
PERSONAL_WAYS: Final = frozenset({"form", "page", "one-click", "mailto"})
# From where to where, and whether only the person can do it. What is not here does not happen.
TRANSITIONS: Final[Mapping[tuple[SubscriberStatus, SubscriberStatus], bool]] = {
    (_S.PENDING, _S.ACTIVE): True,
    (_S.PENDING, _S.UNSUBSCRIBED): False,
    (_S.PENDING, _S.BOUNCED): False,
    (_S.PENDING, _S.COMPLAINED): False,
    (_S.PENDING, _S.ERASED): False,
    (_S.ACTIVE, _S.UNSUBSCRIBED): False,
    (_S.ACTIVE, _S.BOUNCED): False,
    (_S.ACTIVE, _S.COMPLAINED): False,
    (_S.ACTIVE, _S.ERASED): False,
    (_S.UNSUBSCRIBED, _S.PENDING): True,
    (_S.UNSUBSCRIBED, _S.ACTIVE): True,
    (_S.UNSUBSCRIBED, _S.COMPLAINED): False,
    (_S.UNSUBSCRIBED, _S.ERASED): False,
    (_S.BOUNCED, _S.PENDING): True,
    (_S.BOUNCED, _S.ACTIVE): True,
    (_S.BOUNCED, _S.UNSUBSCRIBED): False,
    (_S.BOUNCED, _S.COMPLAINED): False,
    (_S.BOUNCED, _S.ERASED): False,
    (_S.COMPLAINED, _S.PENDING): True,
    (_S.COMPLAINED, _S.ACTIVE): True,
    (_S.COMPLAINED, _S.UNSUBSCRIBED): False,
    (_S.COMPLAINED, _S.ERASED): False,
}
# Why an address as such is not mailed any more, whoever subscribes it again.
SUPPRESSES: Final = {_S.BOUNCED: "hard bounce", _S.COMPLAINED: "complaint"}
OUT: Final = frozenset({_S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED})

# In one order for everybody: two servers that lock the same people must not wait for each other.
_STATUSES: Final = (
    select(Subscriber.id, Subscriber.status)
    .where(among(Subscriber.id, "ids"))
    .order_by(Subscriber.id)
    .with_for_update()
)
_UNSUBSCRIBE: Final = (
    update(Subscriber)
    .where(among(Subscriber.id, "ids"))
    .values(status=_S.UNSUBSCRIBED.value, changed_at=bindparam("at"))
    .execution_options(synchronize_session=False)
)
_OUT_BY_IMPORT: Final = select(Consent.subscriber_id).where(
    Consent.id.in_(
        select(func.max(Consent.id))
        .where(among(Consent.subscriber_id, "ids"))
        .group_by(Consent.subscriber_id)
    ),
    Consent.import_id.is_not(None),
)


class AddResult(StrEnum):
    """What became of an address that was to be added."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT_OUT = "kept out"
    """Opted out, bounced, complained or erased before; only the person can come back."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from, as the ledger keeps it. `way` is a word of `Consent.way`.

    `wording` is what the form said to the person; the ledger names its version, and it is kept once.
    """

    way: str
    ip: str = ""
    form: str = ""
    wording: str = ""
    note: str = ""
    issue_id: int | None = None
    import_id: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What one subscriber asked for, where it came from, and when."""

    subscriber_id: int
    origin: Origin
    at: datetime


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did; `subscriber_id` is None for an address that was erased."""

    subscriber_id: int | None
    result: AddResult


@dataclass(frozen=True, slots=True)
class SubscriberView:
    """A subscriber as other rooms see one."""

    id: int
    address: str
    address_key: str
    name: str
    status: SubscriberStatus
    created_at: datetime
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One line of the consent ledger."""

    at: datetime
    before: str
    after: str
    way: str
    ip: str
    form: str
    note: str


def add(
    session: Session,
    address: Address,
    *,
    secret: bytes,
    origin: Origin,
    at: datetime,
    name: str = "",
    attributes: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    status: SubscriberStatus = SubscriberStatus.ACTIVE,
) -> Added:
    """Add a subscriber, or bring name, attributes and tags of a known one up to date.

    `secret` is the oldest of `Database.secrets()`: it recognises erased addresses. Whoever opted out,
    bounced, complained or was erased is not brought back. Raises `AddressError` for a name, tag or
    attribute that must not be kept.
    """
    name, tags, attributes = check_name(name), check_tags(tags), check_attributes(attributes or {})
    known = session.scalar(select(Subscriber).where(Subscriber.address_key == address.key))
    if known is None:
        if suppression.reason_for(session, address.key, secret=secret):
            return Added(None, AddResult.KEPT_OUT)
        known = Subscriber(
            address=str(address),
            address_key=address.key,
            domain=address.domain,
            name=name,
            status=status.value,
            attributes=attributes,
            created_at=at,
            changed_at=at,
        )
        session.add(known)
        session.flush()
        write_line(session, known.id, None, status, origin=origin, at=at)
        _add_tags(session, known.id, tags)
        return Added(known.id, AddResult.ADDED)
    if known.status not in (SubscriberStatus.ACTIVE.value, SubscriberStatus.PENDING.value):
        return Added(known.id, AddResult.KEPT_OUT)
    merged = {**known.attributes, **attributes}
    changed = (
        _add_tags(session, known.id, tags) | (merged != known.attributes) | bool(name and name != known.name)
    )
    if not changed:
        return Added(known.id, AddResult.UNCHANGED)
    known.name, known.attributes, known.changed_at = name or known.name, merged, at
    session.flush()
    return Added(known.id, AddResult.UPDATED)


def revise(
    session: Session,
    subscriber_id: int,
    *,
    at: datetime,
    name: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
) -> bool:
    """Change what is known of a subscriber; return whether there is such a subscriber.

    `attributes` are merged, and None takes one out (RFC 7396); `tags` replace the ones there are. What
    is None stays as it is. Raises `AddressError` for what must not be kept.
    """
    known = session.get(Subscriber, subscriber_id, with_for_update=True)
    if known is None or known.status == SubscriberStatus.ERASED:
        return False
    if name is not None:
        known.name = check_name(name)
    if attributes is not None:
        merged = {**known.attributes, **attributes}
        known.attributes = check_attributes({key: one for key, one in merged.items() if one is not None})
    if tags is not None:
        wanted = check_tags(tags)
        session.execute(
            delete(SubscriberTag).where(
                SubscriberTag.subscriber_id == subscriber_id, SubscriberTag.tag.not_in(wanted)
            )
        )
        _add_tags(session, subscriber_id, wanted)
    known.changed_at = at
    session.flush()
    return True


def change_status(
    session: Session, subscriber_id: int, to: SubscriberStatus, *, origin: Origin, at: datetime
) -> bool:
    """Bring a subscriber to a status, with a line in the ledger; return whether anything changed.

    False when the subscriber stands there already, does not exist, or may not go there this way: see
    `TRANSITIONS`. A hard bounce or a complaint suppresses the address; the person's own return lifts it.
    """
    known = session.get(Subscriber, subscriber_id, with_for_update=True)
    if known is None:
        return False
    before = SubscriberStatus(known.status)
    by_person_alone = TRANSITIONS.get((before, to))
    if by_person_alone is None or (by_person_alone and origin.way not in PERSONAL_WAYS):
        if to in OUT and before in OUT:
            _insist(session, {subscriber_id: _line(subscriber_id, before, before, origin, at)})
        return False
    known.status, known.changed_at = to.value, at
    if reason := SUPPRESSES.get(to):
        suppression.suppress(session, known.address_key, reason, at=at, note=origin.note)
    elif to is SubscriberStatus.ACTIVE:
        suppression.lift(session, known.address_key)
        known.soft_points, known.soft_since, known.soft_last_at = 0.0, None, None
        # A pause was from the subscription that has ended; who comes back wants the next issue.
        known.paused_until = None
    write_line(session, subscriber_id, before, to, origin=origin, at=at)
    session.flush()
    return True


def unsubscribe(session: Session, subscriber_id: int, *, origin: Origin, at: datetime) -> bool:
    """Take a subscriber off, at once; return whether anything changed. Twice is as good as once."""
    return change_status(session, subscriber_id, SubscriberStatus.UNSUBSCRIBED, origin=origin, at=at)


def unsubscribe_all(session: Session, changes: Sequence[Change]) -> list[bool]:
    """Take many off in a handful of statements; return for each what `unsubscribe` would have.

    They count as changed at the latest of the instants given; the ledger has the instant of each.
    """
    found = session.execute(_STATUSES, {"ids": list({change.subscriber_id for change in changes})})
    statuses = {subscriber_id: SubscriberStatus(status) for subscriber_id, status in found}
    lines: list[dict[str, Any]] = []
    again: dict[int, dict[str, Any]] = {}
    outcomes: list[bool] = []
    for change in changes:
        subscriber_id = change.subscriber_id
        before = statuses.get(subscriber_id)
        outcomes.append(before is not None and (before, _S.UNSUBSCRIBED) in TRANSITIONS)
        if before is not None and outcomes[-1]:
            statuses[subscriber_id] = _S.UNSUBSCRIBED
            lines.append(_line(subscriber_id, before, _S.UNSUBSCRIBED, change.origin, change.at))
        elif before in OUT:
            again[subscriber_id] = _line(subscriber_id, before, before, change.origin, change.at)
    if lines:
        session.execute(
            _UNSUBSCRIBE,
            {
                "ids": [line["subscriber_id"] for line in lines],
                "at": max(change.at for change in changes),
            },
        )
        insert_rows(session, Consent, lines)
    _insist(session, again)
    return outcomes


def _insist(session: Session, lines: Mapping[int, dict[str, Any]]) -> None:
    """Write these lines of people who are out already, if only an import said so until now.

    An import can be taken back; what was said since then must not go with it.
    """
    if lines:
        found = session.scalars(_OUT_BY_IMPORT, {"ids": list(lines)})
        insert_rows(session, Consent, [lines[subscriber_id] for subscriber_id in found])


def write_line(
    session: Session,
    subscriber_id: int,
    before: SubscriberStatus | None,
    after: SubscriberStatus,
    *,
    origin: Origin,
    at: datetime,
) -> None:
    """Write a line of the ledger, and keep what the form said if those are new words."""
    wordings.keep(session, origin.wording, at=at)
    session.add(Consent(**_line(subscriber_id, before, after, origin, at)))


def _line(
    subscriber_id: int, before: SubscriberStatus | None, after: SubscriberStatus, origin: Origin, at: datetime
) -> dict[str, Any]:
    return {
        "subscriber_id": subscriber_id,
        "at": at,
        "before": before.value if before else "",
        "after": after.value,
        "way": origin.way,
        "ip": origin.ip,
        "form": origin.form,
        "form_version": wordings.version_of(origin.wording),
        "note": origin.note,
        "issue_id": origin.issue_id,
        "import_id": origin.import_id,
    }


def find(session: Session, address: Address) -> SubscriberView | None:
    """Return the subscriber of an address, however it is spelt, or None."""
    known = session.scalar(select(Subscriber).where(Subscriber.address_key == address.key))
    return None if known is None else _view(session, known)


def get(session: Session, subscriber_id: int) -> SubscriberView | None:
    """Return a subscriber by id, or None."""
    known = session.get(Subscriber, subscriber_id)
    return None if known is None else _view(session, known)


def history(session: Session, subscriber_id: int) -> list[LedgerLine]:
    """Return the ledger of a subscriber, oldest first."""
    lines = session.scalars(
        select(Consent).where(Consent.subscriber_id == subscriber_id).order_by(Consent.id)
    )
    return [
        LedgerLine(line.at, line.before, line.after, line.way, line.ip, line.form, line.note)
        for line in lines
    ]


def view(known: Subscriber, tags: Iterable[str]) -> SubscriberView:
    """Return a stored subscriber as other rooms see one."""
    return SubscriberView(
        id=known.id,
        address=known.address,
        address_key=known.address_key,
        name=known.name,
        status=SubscriberStatus(known.status),
        created_at=known.created_at,
        attributes=known.attributes,
        tags=tuple(tags),
    )


def _view(session: Session, known: Subscriber) -> SubscriberView:
    tags = session.scalars(
        select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == known.id).order_by(SubscriberTag.tag)
    )
    return view(known, tags)


def _add_tags(session: Session, subscriber_id: int, tags: Iterable[str]) -> bool:
    known = set(
        session.scalars(select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == subscriber_id))
    )
    new = sorted(set(tags) - known)
    session.add_all(SubscriberTag(subscriber_id=subscriber_id, tag=tag) for tag in new)
    session.flush()
    return bool(new)
