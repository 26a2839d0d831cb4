"""An import taken back: whom it added, whom it took off, and what it suppressed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session, aliased

from mailer.audience.subscribers import OUT
from mailer.audience.transfer.opt_outs import suppression_note
from mailer.database.models import Consent, Delivery, Import, Subscriber, SubscriberStatus, Suppression
from mailer.database.session import Database
from mailer.errors import SourceError

_ACTIVE: Final = SubscriberStatus.ACTIVE.value
_AT_ONCE: Final = 20_000
_OUT: Final = tuple(sorted(status.value for status in OUT))


@dataclass(frozen=True, slots=True)
class Reverted:
    """What taking an import back did: whom it had added is removed, whom it took off is active again."""

    removed: int = 0
    restored: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """An import as the listing shows it: from which file, and what it did."""

    id: int
    at: datetime
    source: str
    added: int
    updated: int
    opted_out: int
    taken_off: int
    rejected: int
    reverted_at: datetime | None


def imports(session: Session, *, limit: int) -> list[Imported]:
    """Return the newest imports, the newest first."""
    stored = session.scalars(select(Import).order_by(Import.id.desc()).limit(limit))
    return [Imported(*(getattr(one, field.name) for field in fields(Imported))) for one in stored]


def revert(database: Database, import_id: int, *, at: datetime) -> Reverted:
    """Take an import back, as far as nothing has happened since.

    A subscriber who was changed, queued for an issue, or has another line in the ledger (an opt-out,
    say) stays as is. Names, attributes and tags of known subscribers stay as well.
    """
    with database.transaction() as session:
        stored = session.get(Import, import_id)
        if stored is None:
            raise SourceError(f"there is no import {import_id}", remedy="see: mailer subscribers imports")
        if stored.reverted_at is not None:
            return Reverted()
        removed = restored = 0
        for lines in _parts(session, stored):
            restored += _restore(session, stored, lines, at=at)
            untouched = _untouched(stored, lines)
            _lift(session, stored, untouched)
            gone = session.execute(
                delete(Subscriber)
                .where(Subscriber.id.in_(untouched))
                .execution_options(synchronize_session=False)
            )
            removed += int(gone.rowcount)  # type: ignore[attr-defined]
        stored.reverted_at = at
        return Reverted(removed, restored)


def _parts(session: Session, stored: Import) -> list[range]:
    """Return the ids of an import's ledger lines in ranges of so many: memory is that of one."""
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
    """Return the ids of whom these lines of an import added, and to whom nothing has happened since."""
    other = aliased(Consent)
    only_line = ~exists().where(other.subscriber_id == Consent.subscriber_id, other.id != Consent.id)
    ours = select(Consent.subscriber_id).where(Consent.import_id == stored.id, _among(lines), only_line)
    queued = exists().where(Delivery.subscriber_id == Subscriber.id)
    return select(Subscriber.id).where(Subscriber.id.in_(ours), Subscriber.changed_at == stored.at, ~queued)


def _restore(session: Session, stored: Import, lines: range, *, at: datetime) -> int:
    """Make active again whom these lines took off, if nothing has happened since; return how many.

    This alone goes back on a status without the person: what was said in error was not said. A later
    opt-out, and another import that agrees, have a line of their own, and whoever has one stays out.
    """
    other = aliased(Consent)
    last = ~exists().where(other.subscriber_id == Consent.subscriber_id, other.id > Consent.id)
    before = session.scalar(select(func.max(Consent.id))) or 0
    new = (
        select(
            Consent.subscriber_id,
            literal(at, Consent.at.type),
            Consent.after,
            literal(_ACTIVE),
            literal("import"),
            literal(f"import {stored.id} was taken back"),
            literal(stored.id),
        )
        .join(Subscriber, Subscriber.id == Consent.subscriber_id)
        .where(
            Consent.import_id == stored.id,
            _among(lines),
            Consent.before == _ACTIVE,
            Consent.after.in_(_OUT),
            Subscriber.status == Consent.after,
            Subscriber.changed_at == stored.at,
            last,
        )
    )
    columns = ["subscriber_id", "at", "before", "after", "way", "note", "import_id"]
    session.execute(insert(Consent).from_select(columns, new))
    back = select(Consent.subscriber_id).where(
        Consent.import_id == stored.id,
        Consent.id > before,
        Consent.before.in_(_OUT),
        Consent.after == _ACTIVE,
    )
    restored = session.execute(
        update(Subscriber)
        .where(Subscriber.id.in_(back))
        .values(status=_ACTIVE, changed_at=at)
        .execution_options(synchronize_session=False)
    )
    _lift(session, stored, back)
    return int(restored.rowcount)  # type: ignore[attr-defined]


def _lift(session: Session, stored: Import, subscriber_ids: Select[int]) -> None:
    """Take out what an import suppressed, of these subscribers."""
    keys = select(Subscriber.address_key).where(Subscriber.id.in_(subscriber_ids))
    session.execute(
        delete(Suppression)
        .where(
            Suppression.address_key.in_(keys),
            Suppression.at == stored.at,
            Suppression.note == suppression_note(stored.id),
        )
        .execution_options(synchronize_session=False)
    )
