"""Add, edit and find subscribers. Only `ledger` changes their statuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, select, update

from mailer.address import Address
from mailer.audience import suppression
from mailer.audience.fields import check_attributes, check_name, check_tags
from mailer.audience.ledger import add_note, enrol
from mailer.audience.transitions import Enrolment, Origin
from mailer.database.rows import insert_rows
from mailer.database.tables import (
    NO_SOFT_BOUNCES,
    Consent,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    TableRow,
)
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
    connection: Connection,
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
    known = connection.execute(
        select(Subscriber.c.id, Subscriber.c.status, Subscriber.c.name, Subscriber.c.attributes).where(
            Subscriber.c.address_key == address.key
        )
    ).one_or_none()
    if known is None:
        if suppression.reason_for(connection, address.key, secret=secret):
            return Added(None, AddResult.KEPT_OUT)
        new = Enrolment(address, status, origin, name, attributes)
        subscriber_id = enrol(connection, [new], at=at)[address.key]
        _add_tags(connection, subscriber_id, tags)
        return Added(subscriber_id, AddResult.ADDED)
    if known.status not in (SubscriberStatus.ACTIVE.value, SubscriberStatus.PENDING.value):
        return Added(known.id, AddResult.KEPT_OUT)
    merged = {**known.attributes, **attributes}
    changes: dict[str, Any] = {}
    if name and name != known.name:
        changes["name"] = name
    if merged != known.attributes:
        changes["attributes"] = merged
    if not (_add_tags(connection, known.id, tags) or changes):
        return Added(known.id, AddResult.UNCHANGED)
    _change(connection, known.id, at=at, **changes)
    return Added(known.id, AddResult.UPDATED)


def revise(
    connection: Connection,
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
    known = _locked(connection, subscriber_id)
    if known is None:
        return False
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = check_name(name)
    if attributes is not None:
        merged = {**known.attributes, **attributes}
        changes["attributes"] = check_attributes({key: one for key, one in merged.items() if one is not None})
    if tags is not None:
        wanted = check_tags(tags)
        connection.execute(
            delete(SubscriberTag).where(
                SubscriberTag.c.subscriber_id == subscriber_id, SubscriberTag.c.tag.not_in(wanted)
            )
        )
        _add_tags(connection, subscriber_id, wanted)
    _change(connection, subscriber_id, at=at, **changes)
    return True


def change_address(
    connection: Connection,
    subscriber_id: int,
    address: Address,
    *,
    secret: bytes,
    origin: Origin,
    at: datetime,
) -> bool:
    """Give a subscriber another address, with a line in the ledger; return whether it changed.

    Raises `RefusedError` if another subscriber has the new address, or if it is suppressed or erased.
    """
    known = _locked(connection, subscriber_id)
    if known is None or known.address == str(address):
        return False
    changes: dict[str, Any] = {
        "address": str(address),
        "address_key": address.key,
        "domain": address.domain,
    }
    if known.address_key != address.key:
        other = connection.scalar(select(Subscriber.c.id).where(Subscriber.c.address_key == address.key))
        if other is not None:
            raise RefusedError(
                f"{address} belongs to another subscriber",
                remedy=f"see the history with: mailer why {address}",
            )
        if reason := suppression.reason_for(connection, address.key, secret=secret):
            raise RefusedError(
                f"{address} is suppressed ({reason})", remedy=f"see the history with: mailer why {address}"
            )
        # The soft bounces belong to the old address.
        changes |= NO_SOFT_BOUNCES
    note = f"address changed from {known.address}"
    _change(connection, subscriber_id, at=at, **changes)
    add_note(
        connection, subscriber_id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at
    )
    return True


def change_tags(
    connection: Connection,
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
    known = _locked(connection, subscriber_id)
    if known is None:
        return ()
    theirs = set(
        connection.scalars(select(SubscriberTag.c.tag).where(SubscriberTag.c.subscriber_id == subscriber_id))
    )
    new, gone = sorted(set(check_tags(add)) - theirs), sorted(set(remove) & theirs)
    check_tags([*theirs, *new])
    if not new and not gone:
        return ()
    insert_tags(connection, subscriber_id, new)
    connection.execute(
        delete(SubscriberTag).where(
            SubscriberTag.c.subscriber_id == subscriber_id, SubscriberTag.c.tag.in_(gone)
        )
    )
    _change(connection, subscriber_id, at=at)
    changes = (*(f"+{tag}" for tag in new), *(f"-{tag}" for tag in gone))
    note = f"tags: {', '.join(changes)}"
    add_note(
        connection, subscriber_id, SubscriberStatus(known.status), origin=replace(origin, note=note), at=at
    )
    return changes


def find(connection: Connection, address: Address) -> SubscriberView | None:
    """Return the subscriber with an address, in any spelling, or None."""
    return _found(connection, Subscriber.c.address_key == address.key)


def get(connection: Connection, subscriber_id: int) -> SubscriberView | None:
    """Return a subscriber by id, or None."""
    return _found(connection, Subscriber.c.id == subscriber_id)


def history(connection: Connection, subscriber_id: int) -> list[LedgerLine]:
    """Return the ledger of a subscriber, oldest first."""
    lines = connection.execute(
        select(
            Consent.c.at,
            Consent.c.before,
            Consent.c.after,
            Consent.c.way,
            Consent.c.ip,
            Consent.c.form,
            Consent.c.note,
        )
        .where(Consent.c.subscriber_id == subscriber_id)
        .order_by(Consent.c.id)
    )
    return [LedgerLine(*line) for line in lines]


def insert_tags(connection: Connection, subscriber_id: int, tags: Iterable[str]) -> None:
    """Insert tags that a subscriber does not have yet."""
    insert_rows(connection, SubscriberTag, [{"subscriber_id": subscriber_id, "tag": tag} for tag in tags])


def view(known: TableRow, tags: Iterable[str]) -> SubscriberView:
    """Return a row of `Subscriber` as a `SubscriberView`."""
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


def _found(connection: Connection, condition: ColumnElement[bool]) -> SubscriberView | None:
    known = connection.execute(select(Subscriber).where(condition)).one_or_none()
    if known is None:
        return None
    tags = connection.scalars(
        select(SubscriberTag.c.tag)
        .where(SubscriberTag.c.subscriber_id == known.id)
        .order_by(SubscriberTag.c.tag)
    )
    return view(known, tags)


def _add_tags(connection: Connection, subscriber_id: int, tags: Iterable[str]) -> bool:
    known = set(
        connection.scalars(select(SubscriberTag.c.tag).where(SubscriberTag.c.subscriber_id == subscriber_id))
    )
    new = sorted(set(tags) - known)
    insert_tags(connection, subscriber_id, new)
    return bool(new)


def _locked(connection: Connection, subscriber_id: int) -> TableRow | None:
    """Lock a subscriber and return the row, or None if there is no such subscriber or they were erased."""
    wanted = select(Subscriber).where(Subscriber.c.id == subscriber_id).with_for_update()
    known = connection.execute(wanted).one_or_none()
    return None if known is None or known.status == SubscriberStatus.ERASED else known


def _change(connection: Connection, subscriber_id: int, *, at: datetime, **values: object) -> None:
    connection.execute(
        update(Subscriber).where(Subscriber.c.id == subscriber_id).values(changed_at=at, **values)
    )
