"""Revert an import: the people it added, unsubscribed and suppressed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    exists,
    func,
    select,
    update,
)

from mailer.audience.ledger import correct, lift_import
from mailer.audience.transitions import OUT, Move, Origin
from mailer.database.engine import Database
from mailer.database.rows import refresh_statistics
from mailer.database.tables import Consent, Delivery, Import, Subscriber, SubscriberStatus
from mailer.errors import SourceError

_AT_ONCE: Final = 20_000
_OUT: Final = tuple(sorted(status.value for status in OUT))

_Import: TypeAlias = Row[int, datetime, datetime | None]
"""The id of an import, when it was, and when it was reverted."""


@dataclass(frozen=True, slots=True)
class Reverted:
    """The result of reverting an import."""

    removed: int = 0
    """Subscribers that the import had added."""
    restored: int = 0
    """Subscribers that the import had unsubscribed, active again."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """An import as `mailer subscribers imports` lists it."""

    id: int
    at: datetime
    source: str
    added: int
    updated: int
    opted_out: int
    taken_off: int
    rejected: int
    reverted_at: datetime | None


def imports(connection: Connection, *, limit: int) -> list[ImportSummary]:
    """Return the latest imports, newest first."""
    columns = (Import.c[field.name] for field in fields(ImportSummary))
    stored = connection.execute(select(*columns).order_by(Import.c.id.desc()).limit(limit))
    return [ImportSummary(*one) for one in stored]


def revert(database: Database, import_id: int, *, at: datetime) -> Reverted:
    """Revert an import for everyone who has not changed since.

    Subscribers who were edited, queued for an issue, or got a later ledger line (an opt-out, a bounce) keep
    their status. Names, attributes and tags that the import gave to existing subscribers stay too.
    """
    with database.transaction() as connection:
        stored = connection.execute(
            select(Import.c.id, Import.c.at, Import.c.reverted_at).where(Import.c.id == import_id)
        ).one_or_none()
        if stored is None:
            raise SourceError(
                f"there is no import {import_id}", remedy="list the imports with: mailer subscribers imports"
            )
        if stored.reverted_at is not None:
            return Reverted()
        refresh_statistics(connection, Subscriber, Consent, Delivery)
        removed = restored = 0
        for lines in _parts(connection, stored):
            restored += _restore(connection, stored, lines, at=at)
            untouched = _untouched(stored, lines)
            lift_import(connection, stored.id, stored.at, untouched)
            gone = connection.execute(delete(Subscriber).where(Subscriber.c.id.in_(untouched)))
            removed += gone.rowcount
        connection.execute(update(Import).where(Import.c.id == import_id).values(reverted_at=at))
        return Reverted(removed, restored)


def _parts(connection: Connection, stored: _Import) -> list[range]:
    """Return the ids of an import's ledger lines in ranges, so that memory does not grow with the import."""
    ids = select(Consent.c.id).where(Consent.c.import_id == stored.id).order_by(Consent.c.id)
    parts: list[range] = []
    last = 0
    while True:
        part = ids.where(Consent.c.id > last).limit(_AT_ONCE).subquery()
        end = connection.scalar(select(func.max(part.c.id)))
        if end is None:
            return parts
        parts.append(range(last + 1, end + 1))
        last = end


def _among(lines: range) -> ColumnElement[bool]:
    return Consent.c.id.between(lines.start, lines.stop - 1)


def _untouched(stored: _Import, lines: range) -> Select[int]:
    """Return the subscribers that these lines added and that have not changed since."""
    other = Consent.alias().c
    only_line = ~exists().where(other.subscriber_id == Consent.c.subscriber_id, other.id != Consent.c.id)
    ours = select(Consent.c.subscriber_id).where(Consent.c.import_id == stored.id, _among(lines), only_line)
    queued = exists().where(Delivery.c.subscriber_id == Subscriber.c.id)
    return select(Subscriber.c.id).where(
        Subscriber.c.id.in_(ours), Subscriber.c.changed_at == stored.at, ~queued
    )


def _restore(connection: Connection, stored: _Import, lines: range, *, at: datetime) -> int:
    """Restore the statuses that these lines changed; return how many subscribers are active again.

    Anyone with a later ledger line, such as an opt-out, a bounce or another import that agrees, is skipped.
    """
    ours = select(Consent.c.subscriber_id).where(Consent.c.import_id == stored.id, _among(lines))
    # Lock first, so that the query below sees changes that are being recorded now.
    connection.execute(
        select(Subscriber.c.id).where(Subscriber.c.id.in_(ours)).order_by(Subscriber.c.id).with_for_update()
    )
    other = Consent.alias().c
    last = ~exists().where(other.subscriber_id == Consent.c.subscriber_id, other.id > Consent.c.id)
    found = connection.execute(
        select(Consent.c.subscriber_id, Consent.c.before)
        .join(Subscriber, Subscriber.c.id == Consent.c.subscriber_id)
        .where(
            Consent.c.import_id == stored.id,
            _among(lines),
            Consent.c.before.not_in(["", Consent.c.after]),
            Consent.c.after.in_(_OUT),
            Subscriber.c.status == Consent.c.after,
            Subscriber.c.changed_at == stored.at,
            last,
        )
        .order_by(Consent.c.subscriber_id)
    ).all()
    origin = Origin("import", note=f"import {stored.id} was reverted", import_id=stored.id)
    moves = [Move(row.subscriber_id, SubscriberStatus(row.before), origin, at) for row in found]
    correct(connection, moves)
    ids = [row.subscriber_id for row in found]
    lift_import(connection, stored.id, stored.at, select(Subscriber.c.id).where(Subscriber.c.id.in_(ids)))
    return sum(one.to is SubscriberStatus.ACTIVE for one in moves)
