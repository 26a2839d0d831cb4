"""Add, edit and find subscribers. Only `ledger` changes their statuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience import suppression
from mailer.audience.fields import check_attributes, check_name, check_tags
from mailer.audience.ledger import add_note, enrol
from mailer.audience.transitions import Enrolment, Origin
from mailer.database.models import Consent, Subscriber, SubscriberStatus, SubscriberTag
from mailer.errors import RefusedError


class AddResult(StrEnum):
    """The result of adding an address."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    KEPT_OUT = "kept out"
    """Unsubscribed, bounced, complained or erased before; only the person can sign up again."""


class Added(Struct, frozen=True):
    """The result of `add`; `subscriber_id` is None for an address that was erased."""

    subscriber_id: int | None
    result: AddResult


class SubscriberView(Struct, frozen=True):
    """A subscriber, as passed to other packages."""

    id: int
    address: str
    address_key: str
    name: str
    status: SubscriberStatus
    created_at: datetime
    attributes: Mapping[str, Any]
    tags: tuple[str, ...]


class LedgerLine(Struct, frozen=True):
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
    """Add a subscriber, or update the name, attributes and tags of an existing one.

    `secret` is the oldest of `Database.secrets()`: it recognises erased addresses. People who unsubscribed,
    bounced, complained or were erased are not added again. Raises `AddressError` for a name, tag or
    attribute that cannot be stored.
    """
    name, tags, attributes = check_name(name), check_tags(tags), check_attributes(attributes or {})
    known = session.scalar(select(Subscriber).where(Subscriber.address_key == address.key))
    if known is None:
        if suppression.reason_for(session, address.key, secret=secret):
            return Added(None, AddResult.KEPT_OUT)
        new = Enrolment(address, status, origin, name, attributes)
        subscriber_id = enrol(session, [new], at=at)[address.key]
        _add_tags(session, subscriber_id, tags)
        return Added(subscriber_id, AddResult.ADDED)
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
    """Change a subscriber's details; return whether there is such a subscriber.

    `attributes` are merged, and a value of None removes one (RFC 7396); `tags` replace the existing ones.
    Arguments that are None change nothing. Raises `AddressError` for a value that cannot be stored.
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


def change_address(
    session: Session, subscriber_id: int, address: Address, *, secret: bytes, origin: Origin, at: datetime
) -> bool:
    """Give a subscriber another address, with a line in the ledger; return whether it changed.

    Raises `RefusedError` if another subscriber has the new address, or if it is suppressed or erased.
    """
    known = session.get(Subscriber, subscriber_id, with_for_update=True)
    if known is None or known.status == SubscriberStatus.ERASED or known.address == str(address):
        return False
    if known.address_key != address.key:
        other = session.scalar(select(Subscriber.id).where(Subscriber.address_key == address.key))
        if other is not None:
            raise RefusedError(
                f"{address} belongs to another subscriber",
                remedy=f"see the history with: mailer why {address}",
            )
        if reason := suppression.reason_for(session, address.key, secret=secret):
            raise RefusedError(
                f"{address} is suppressed ({reason})", remedy=f"see the history with: mailer why {address}"
            )
        # The soft bounces belong to the old address.
        known.soft_points, known.soft_since = 0.0, None
    note = f"address changed from {known.address}"
    known.address, known.address_key, known.domain = str(address), address.key, address.domain
    known.changed_at = at
    session.flush()
    add_note(session, subscriber_id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at)
    return True


def change_tags(
    session: Session,
    subscriber_id: int,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    origin: Origin,
    at: datetime,
) -> tuple[str, ...]:
    """Add and remove tags, with a line in the ledger; return what changed, such as `+vip`.

    Raises `AddressError` for a tag that cannot be stored.
    """
    known = session.get(Subscriber, subscriber_id, with_for_update=True)
    if known is None or known.status == SubscriberStatus.ERASED:
        return ()
    theirs = set(
        session.scalars(select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == subscriber_id))
    )
    new, gone = sorted(set(check_tags(add)) - theirs), sorted(set(remove) & theirs)
    check_tags([*theirs, *new])
    if not new and not gone:
        return ()
    session.add_all(SubscriberTag(subscriber_id=subscriber_id, tag=tag) for tag in new)
    session.execute(
        delete(SubscriberTag).where(SubscriberTag.subscriber_id == subscriber_id, SubscriberTag.tag.in_(gone))
    )
    known.changed_at = at
    session.flush()
    changes = (*(f"+{tag}" for tag in new), *(f"-{tag}" for tag in gone))
    note = f"tags: {', '.join(changes)}"
    add_note(session, subscriber_id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at)
    return changes


def find(session: Session, address: Address) -> SubscriberView | None:
    """Return the subscriber with an address, in any spelling, or None."""
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
    """Return a stored subscriber as a `SubscriberView`."""
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
