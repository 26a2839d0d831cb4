"""The only writer of statuses, the consent ledger and suppressions.

`move` changes the status of any number of subscribers in a fixed number of statements. Every change
comes with a line in the ledger, written in the same transaction. `mailer.audience.transitions` lists the
changes that exist; `corrections` undoes mistakes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final, cast

from msgspec import Struct, field
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)

from mailer.audience import wordings
from mailer.audience.suppression import ERASED
from mailer.audience.transitions import (
    OUT,
    PERSONAL_WAYS,
    RESTORE,
    SUPPRESSES,
    TRANSITIONS,
    Enrolment,
    Move,
    MoveResult,
    Origin,
    SubscriberRequest,
)
from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.rows import insert_rows
from mailer.database.tables import NO_SOFT_BOUNCES, Consent, Subscriber, SubscriberStatus, Suppression
from mailer.webhooks.queue import Occurrence, put

_S = SubscriberStatus

# Every transaction locks people in the order of their ids, so no two wait for each other.
_LOCK: Final = (
    select(Subscriber.c.id, Subscriber.c.address_key, Subscriber.c.status)
    .where(among(Subscriber.c.id, "ids"))
    .order_by(Subscriber.c.id)
    .with_for_update()
)
_SET_STATUS: Final = (
    update(Subscriber)
    .where(among(Subscriber.c.id, "ids"))
    .values(status=bindparam("to"), changed_at=bindparam("changed_at"))
)
# A new subscription starts without the soft bounces and the pause of the previous one.
_ACTIVATE: Final = _SET_STATUS.values(**NO_SOFT_BOUNCES, paused_until=None)
_LAST_LINES: Final = select(
    Consent.c.subscriber_id,
    Consent.c.way,
    Consent.c.import_id,
    (Consent.c.before == Consent.c.after).label("confirms"),
).where(
    Consent.c.id.in_(
        select(func.max(Consent.c.id))
        .where(among(Consent.c.subscriber_id, "ids"))
        .group_by(Consent.c.subscriber_id)
    )
)
_CONSENTED_AT: Final = (
    select(Consent.c.subscriber_id, func.max(Consent.c.at))
    .where(
        among(Consent.c.subscriber_id, "ids"),
        Consent.c.after == _S.ACTIVE.value,
        Consent.c.before != Consent.c.after,
        Consent.c.way.in_([*sorted(PERSONAL_WAYS), RESTORE]),
    )
    .group_by(Consent.c.subscriber_id)
)
# Both databases know this form. The first reason stays, because it explains why no email was sent since.
_SUPPRESS: Final = text(
    "INSERT INTO suppressions (address_key, reason, at, note, report_id) "
    "VALUES (:address_key, :reason, :at, :note, :report_id) ON CONFLICT (address_key) DO NOTHING"
)
# Databases limit the number of parameters in a statement.
_AT_ONCE: Final = 5_000


class _Batch(Struct):
    """The rows that a batch of moves writes."""

    lines: list[dict[str, object]] = field(default_factory=list)
    again: dict[int, Move] = field(default_factory=dict)
    """Moves of people who have already opted out or bounced."""
    statuses: dict[int, SubscriberStatus] = field(default_factory=dict)
    lifted: set[int] = field(default_factory=set)
    suppressed: dict[int, Move] = field(default_factory=dict)


def move(connection: Connection, moves: Sequence[Move]) -> list[MoveResult]:
    """Change statuses, each with a line in the ledger; return the result of each move, in the same order.

    A hard bounce or a complaint also suppresses the address; the suppression ends when the person signs up
    again. People who have already opted out or bounced keep their status. If only an import or the operator
    recorded that, the new cause is added to the ledger, so that correcting the first does not undo both.
    """
    if not moves:
        return []
    ids = sorted({one.subscriber_id for one in moves})
    people = {row.id: row for row in connection.execute(_LOCK, {"ids": ids})}
    consented = _consented(connection, moves)
    statuses = {row.id: SubscriberStatus(row.status) for row in people.values()}
    batch = _Batch()
    results = [_decide(one, statuses, consented, batch) for one in moves]
    _confirm(connection, batch, statuses)
    _write(connection, batch, {row.id: row.address_key for row in people.values()}, max(m.at for m in moves))
    for wording in {one.origin.wording for one in moves}:
        wordings.keep(connection, wording, at=moves[0].at)
    return results


def _consented(connection: Connection, moves: Sequence[Move]) -> dict[int, datetime]:
    """Return when people last consented, for moves with `happened_at`."""
    dated = sorted({one.subscriber_id for one in moves if one.happened_at is not None})
    if not dated:
        return {}
    return {row[0]: row[1] for row in connection.execute(_CONSENTED_AT, {"ids": dated})}


def _decide(
    one: Move,
    statuses: dict[int, SubscriberStatus],
    consented: Mapping[int, datetime],
    batch: _Batch,
) -> MoveResult:
    """Decide one move, given the earlier moves, and add its rows to the batch."""
    subscriber_id, to = one.subscriber_id, one.to
    before = statuses.get(subscriber_id)
    if before is None:
        return MoveResult.UNKNOWN
    if one.happened_at is not None and _predates(one.happened_at, consented.get(subscriber_id)):
        return MoveResult.OUTDATED
    by_person_alone = TRANSITIONS.get((before, to))
    if by_person_alone is None or (by_person_alone and one.origin.way not in PERSONAL_WAYS):
        if to in OUT and before in OUT:
            batch.again[subscriber_id] = one
        return MoveResult.UNCHANGED if before is to else MoveResult.REFUSED
    statuses[subscriber_id] = batch.statuses[subscriber_id] = to
    batch.lines.append(_line(subscriber_id, before, to, one.origin, one.at))
    if to in SUPPRESSES:
        batch.suppressed.setdefault(subscriber_id, one)
    elif to is _S.ACTIVE:
        batch.lifted.add(subscriber_id)
        batch.suppressed.pop(subscriber_id, None)
    return MoveResult.MOVED


def _confirm(connection: Connection, batch: _Batch, statuses: Mapping[int, SubscriberStatus]) -> None:
    """Add a line for people whose opt-out only an import or the operator has recorded so far."""
    again = {key: one for key, one in batch.again.items() if key not in batch.statuses}
    if not again:
        return
    for row in connection.execute(_LAST_LINES, {"ids": sorted(again)}):
        one = again[row.subscriber_id]
        correctable = row.import_id is not None or row.way == "command"
        # Two imports that agree are enough.
        known = one.origin.import_id is not None and (row.confirms or row.import_id == one.origin.import_id)
        if correctable and not known:
            status = statuses[row.subscriber_id]
            batch.lines.append(_line(row.subscriber_id, status, status, one.origin, one.at))
            if one.to in SUPPRESSES:
                batch.suppressed.setdefault(row.subscriber_id, one)


def _write(connection: Connection, batch: _Batch, keys: Mapping[int, str], changed_at: datetime) -> None:
    for to in sorted(set(batch.statuses.values())):
        connection.execute(
            _ACTIVATE if to is _S.ACTIVE else _SET_STATUS,
            {
                "ids": sorted(one for one, status in batch.statuses.items() if status is to),
                "to": to.value,
                "changed_at": changed_at,
            },
        )
    _record(connection, batch.lines, at=changed_at)
    if batch.lifted:
        _lift(connection, Suppression.c.address_key.in_([keys[one] for one in sorted(batch.lifted)]))
    if batch.suppressed:
        connection.execute(
            _SUPPRESS,
            [
                _suppression(keys[key], SUPPRESSES[one.to], one.origin, one.at)
                for key, one in sorted(batch.suppressed.items())
            ],
        )


def predates_consent(connection: Connection, subscriber_id: int, happened_at: datetime) -> bool:
    """Return whether an event is older than someone's last consent, or their restoration by the operator.

    `move` applies the same rule to moves with `happened_at`. Use this one for events that change no status.
    """
    rows = connection.execute(_CONSENTED_AT, {"ids": [subscriber_id]})
    return _predates(happened_at, next((row[1] for row in rows), None))


def _predates(happened_at: datetime, consented_at: datetime | None) -> bool:
    return consented_at is not None and happened_at < consented_at


def change_status(
    connection: Connection,
    subscriber_id: int,
    to: SubscriberStatus,
    *,
    origin: Origin,
    at: datetime,
    happened_at: datetime | None = None,
) -> bool:
    """Change the status of one subscriber; return whether it changed. See `move`."""
    return move(connection, [Move(subscriber_id, to, origin, at, happened_at)]) == [MoveResult.MOVED]


def unsubscribe(
    connection: Connection,
    subscriber_id: int,
    *,
    origin: Origin,
    at: datetime,
    happened_at: datetime | None = None,
) -> bool:
    """Unsubscribe someone; return whether that changed anything."""
    return change_status(
        connection, subscriber_id, _S.UNSUBSCRIBED, origin=origin, at=at, happened_at=happened_at
    )


def unsubscribe_all(connection: Connection, changes: Sequence[SubscriberRequest]) -> list[bool]:
    """Unsubscribe many; return for each what `unsubscribe` would have returned."""
    moves = [Move(one.subscriber_id, _S.UNSUBSCRIBED, one.origin, one.at) for one in changes]
    return [result is MoveResult.MOVED for result in move(connection, moves)]


def add_note(
    connection: Connection, subscriber_id: int, status: SubscriberStatus, *, origin: Origin, at: datetime
) -> None:
    """Add a line that does not change the status: a preference, a new address, a reason."""
    wordings.keep(connection, origin.wording, at=at)
    insert_rows(connection, Consent, [_line(subscriber_id, status, status, origin, at)])


def enrol(connection: Connection, people: Sequence[Enrolment], *, at: datetime) -> dict[str, int]:
    """Insert new subscribers with their first lines in the ledger; return their ids by address key."""
    insert_without_lines(connection, people, at=at)
    ids: dict[str, int] = {}
    keys = [one.address.key for one in people]
    for start in range(0, len(keys), _AT_ONCE):
        found = select(Subscriber.c.address_key, Subscriber.c.id).where(
            Subscriber.c.address_key.in_(keys[start : start + _AT_ONCE])
        )
        ids |= {row.address_key: row.id for row in connection.execute(found)}
    for wording in {one.origin.wording for one in people}:
        wordings.keep(connection, wording, at=at)
    lines = [_line(ids[one.address.key], None, one.status, one.origin, at) for one in people]
    _record(connection, lines, at=at)
    if suppressed := [one for one in people if one.status in SUPPRESSES]:
        rows = [_suppression(one.address.key, SUPPRESSES[one.status], one.origin, at) for one in suppressed]
        connection.execute(_SUPPRESS, rows)
    return ids


def insert_without_lines(connection: Connection, people: Sequence[Enrolment], *, at: datetime) -> None:
    """Insert new subscribers without ledger lines; imports add those later with `write_first_lines`."""
    if people:
        connection.execute(
            insert(Subscriber),
            [
                {
                    "address": str(one.address),
                    "address_key": one.address.key,
                    "domain": one.address.domain,
                    "name": one.name,
                    "status": one.status.value,
                    "attributes": one.attributes,
                    "created_at": one.joined_at or at,
                    "changed_at": at,
                }
                for one in people
            ],
        )


def write_first_lines(connection: Connection, import_id: int, *, after_id: int, at: datetime) -> None:
    """Write the first ledger lines of the active subscribers that an import added above `after_id`."""
    connection.execute(
        insert(Consent).from_select(
            ["subscriber_id", "at", "after", "way", "import_id"],
            select(
                Subscriber.c.id,
                Subscriber.c.changed_at,
                literal(_S.ACTIVE.value),
                literal("import"),
                literal(import_id),
            ).where(
                Subscriber.c.id > after_id,
                Subscriber.c.changed_at == at,
                Subscriber.c.status == _S.ACTIVE.value,
            ),
        )
    )


def suppress(
    connection: Connection,
    address_key: str,
    reason: str,
    *,
    at: datetime,
    note: str = "",
    report_id: int | None = None,
) -> bool:
    """Suppress an address (its case-folded key); return whether it was not suppressed yet.

    The first reason stays.
    """
    origin = Origin("", note=note, report_id=report_id)
    done = connection.execute(_SUPPRESS, _suppression(address_key, reason, origin, at))
    return done.rowcount > 0


def correct(connection: Connection, moves: Sequence[Move]) -> None:
    """Set statuses regardless of `TRANSITIONS`, because the caller found the recorded ones to be wrong."""
    if not moves:
        return
    ids = sorted({one.subscriber_id for one in moves})
    people = {row.id: row for row in connection.execute(_LOCK, {"ids": ids})}
    for to in sorted({one.to for one in moves}):
        chosen = sorted({one.subscriber_id for one in moves if one.to is to})
        connection.execute(_SET_STATUS, {"ids": chosen, "to": to.value, "changed_at": moves[0].at})
    lines = [
        _line(
            one.subscriber_id, SubscriberStatus(people[one.subscriber_id].status), one.to, one.origin, one.at
        )
        for one in moves
    ]
    _record(connection, lines, at=moves[0].at)


def lift(connection: Connection, address_keys: Collection[str]) -> None:
    """Lift suppressions. Only `corrections` may call this; when a person signs up again, `move` does it."""
    if address_keys:
        _lift(connection, Suppression.c.address_key.in_(sorted(address_keys)))


def lift_import(connection: Connection, import_id: int, imported_at: datetime, people: Select[int]) -> None:
    """Lift the suppressions that an import made for these subscribers."""
    _lift(
        connection,
        Suppression.c.address_key.in_(select(Subscriber.c.address_key).where(Subscriber.c.id.in_(people))),
        Suppression.c.at == imported_at,
        Suppression.c.note == _import_note(import_id),
    )


def forget(
    connection: Connection,
    known: Row[int, str] | None,
    address_key: str,
    hashed_key: str,
    *,
    way: str,
    at: datetime,
) -> int:
    """Delete someone's ledger lines and suppression; return the number of lines.

    `known` has their id and status. One new line records the erasure, and `hashed_key` is suppressed so that
    no import adds the address again. The caller clears the subscriber's other columns.
    """
    _lift(connection, Suppression.c.address_key == address_key)
    suppress(connection, hashed_key, ERASED, at=at)
    if known is None:
        return 0
    before = SubscriberStatus(known.status)
    done = connection.execute(delete(Consent).where(Consent.c.subscriber_id == known.id))
    connection.execute(update(Subscriber).where(Subscriber.c.id == known.id).values(status=_S.ERASED.value))
    _record(connection, [_line(known.id, before, _S.ERASED, Origin(way), at)], at=at)
    return done.rowcount


BLANK_EVIDENCE: Final = update(Consent).values(ip="", form="", form_version="", note="")
"""Clears the evidence of a consent, long after the person unsubscribed; the lines stay."""


def _suppression(address_key: str, reason: str, origin: Origin, at: datetime) -> dict[str, object]:
    """Return the row of a suppression. Its note names the import, if any, so that it can be reverted."""
    return {
        "address_key": address_key,
        "reason": reason,
        "at": to_microseconds(at),
        "note": origin.note if origin.import_id is None else _import_note(origin.import_id),
        "report_id": origin.report_id,
    }


def _record(connection: Connection, lines: Sequence[Mapping[str, object]], *, at: datetime) -> None:
    """Add lines to the ledger, and store the webhook events of those that change a status.

    Imports send no events: a receiver would get one for each of a million people.
    """
    insert_rows(connection, Consent, lines)
    changes = [
        Occurrence(
            f"subscriber.{line['after']}",
            {name: line[name] for name in ("before", "after", "way", "issue_id")},
            cast(int, line["subscriber_id"]),
        )
        for line in lines
        if line["before"] != line["after"] and line["way"] != "import"
    ]
    put(connection, changes, at=at)


def _import_note(import_id: int) -> str:
    return f"import {import_id}"


def _lift(connection: Connection, *conditions: ColumnElement[bool]) -> None:
    connection.execute(delete(Suppression).where(*conditions))


def _line(
    subscriber_id: int, before: SubscriberStatus | None, after: SubscriberStatus, origin: Origin, at: datetime
) -> dict[str, object]:
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
