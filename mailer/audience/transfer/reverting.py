"""Revert an import: the people it added, unsubscribed and suppressed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final, cast

from sqlalchemy import ColumnElement, CursorResult, Select, delete, exists, func, select
from sqlalchemy.orm import Session, aliased

from mailer.audience.ledger import correct, lift_import
from mailer.audience.transitions import OUT, Move, Origin
from mailer.database.models import Consent, Delivery, Import, Subscriber, SubscriberStatus
from mailer.database.rows import refresh_statistics
from mailer.database.session import Database
from mailer.errors import SourceError

_AT_ONCE: Final = 20_000
_OUT: Final = tuple(sorted(status.value for status in OUT))


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


def imports(session: Session, *, limit: int) -> list[ImportSummary]:
    """Return the latest imports, newest first."""
    stored = session.scalars(select(Import).order_by(Import.id.desc()).limit(limit))
    return [ImportSummary(*(getattr(one, field.name) for field in fields(ImportSummary))) for one in stored]


def revert(database: Database, import_id: int, *, at: datetime) -> Reverted:
    """Revert an import for everyone who has not changed since.

    Subscribers who were edited, queued for an issue, or got a later ledger line (an opt-out, a bounce) keep
    their status. Names, attributes and tags that the import gave to existing subscribers stay too.
    """
    with database.transaction() as session:
        stored = session.get(Import, import_id)
        if stored is None:
            raise SourceError(
                f"there is no import {import_id}", remedy="list the imports with: mailer subscribers imports"
            )
        if stored.reverted_at is not None:
            return Reverted()
        refresh_statistics(session, Subscriber, Consent, Delivery)
        removed = restored = 0
        for lines in _parts(session, stored):
            restored += _restore(session, stored, lines, at=at)
            untouched = _untouched(stored, lines)
            lift_import(session, stored.id, stored.at, untouched)
            gone = session.execute(
                delete(Subscriber)
                .where(Subscriber.id.in_(untouched))
                .execution_options(synchronize_session=False)
            )
            removed += cast(CursorResult[object], gone).rowcount
        stored.reverted_at = at
        return Reverted(removed, restored)


def _parts(session: Session, stored: Import) -> list[range]:
    """Return the ids of an import's ledger lines in ranges, so that memory does not grow with the import."""
    ids = select(Consent.id).where(Consent.import_id == stored.id).order_by(Consent.id)
    parts: list[range] = []
    last = 0
    while True:
        part = ids.where(Consent.id > last).limit(_AT_ONCE).subquery()
        end = session.scalar(select(func.max(part.c.id)))
        if end is None:
            return parts
        parts.append(range(last + 1, end + 1))
        last = end


def _among(lines: range) -> ColumnElement[bool]:
    return Consent.id.between(lines.start, lines.stop - 1)


def _untouched(stored: Import, lines: range) -> Select[int]:
    """Return the subscribers that these lines added and that have not changed since."""
    other = aliased(Consent)
    only_line = ~exists().where(other.subscriber_id == Consent.subscriber_id, other.id != Consent.id)
    ours = select(Consent.subscriber_id).where(Consent.import_id == stored.id, _among(lines), only_line)
    queued = exists().where(Delivery.subscriber_id == Subscriber.id)
    return select(Subscriber.id).where(Subscriber.id.in_(ours), Subscriber.changed_at == stored.at, ~queued)


def _restore(session: Session, stored: Import, lines: range, *, at: datetime) -> int:
    """Restore the statuses that these lines changed; return how many subscribers are active again.

    Anyone with a later ledger line, such as an opt-out, a bounce or another import that agrees, is skipped.
    """
    ours = select(Consent.subscriber_id).where(Consent.import_id == stored.id, _among(lines))
    # Lock first, so that the query below sees changes that are being recorded now.
    session.execute(
        select(Subscriber.id).where(Subscriber.id.in_(ours)).order_by(Subscriber.id).with_for_update()
    )
    other = aliased(Consent)
    last = ~exists().where(other.subscriber_id == Consent.subscriber_id, other.id > Consent.id)
    found = session.execute(
        select(Consent.subscriber_id, Consent.before)
        .join(Subscriber, Subscriber.id == Consent.subscriber_id)
        .where(
            Consent.import_id == stored.id,
            _among(lines),
            Consent.before.not_in(["", Consent.after]),
            Consent.after.in_(_OUT),
            Subscriber.status == Consent.after,
            Subscriber.changed_at == stored.at,
            last,
        )
        .order_by(Consent.subscriber_id)
    ).all()
    origin = Origin("import", note=f"import {stored.id} was reverted", import_id=stored.id)
    moves = [Move(row.subscriber_id, SubscriberStatus(row.before), origin, at) for row in found]
    correct(session, moves)
    ids = [row.subscriber_id for row in found]
    lift_import(session, stored.id, stored.at, select(Subscriber.id).where(Subscriber.id.in_(ids)))
    return sum(one.to is SubscriberStatus.ACTIVE for one in moves)
