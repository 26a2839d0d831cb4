"""The periodic look at sequences: let people enter, and queue the steps that are due.

All of it is SQL over sets, some thousands of people in a transaction. A look that is killed, or that two
workers make at the same time, changes nothing twice: the row of the sequence is locked, and queueing a step
moves its people on in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as Many
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    type_coerce,
    update,
)

from mailer.address import Address
from mailer.audience.transitions import PERSONAL_WAYS
from mailer.config import Settings
from mailer.database import running_totals
from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.engine import Database
from mailer.database.tables import (
    Consent,
    Delivery,
    DeliveryState,
    IssueState,
    SequenceMember,
    SequenceStep,
    StoredIssue,
    StoredSequence,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    Suppression,
    TableRow,
)
from mailer.delivery import control
from mailer.delivery.local_time import ATTRIBUTE
from mailer.delivery.sequences.slots import known_zones, open_slots
from mailer.errors import MailerError, RefusedError, SourceError

BATCH: Final = 10_000
"""How many people one transaction moves on."""
_OVERLAP: Final = 10_000
"""How many lines of the ledger are read again: on PostgreSQL a line can be committed after later ones."""
_LATE_DAYS: Final = 7
"""How late somebody whose date has come may enter."""
HOUR: Final = timedelta(hours=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_M: Final = SequenceMember.c
# Jumps from one zone to the next one in the index, so its time does not grow with the people who wait.
_ZONES: Final = text(
    "WITH RECURSIVE found (zone) AS ("
    " SELECT min(zone) FROM sequence_members WHERE next_step_id = :step_id UNION ALL"
    " SELECT (SELECT min(zone) FROM sequence_members WHERE next_step_id = :step_id AND zone > found.zone)"
    " FROM found WHERE found.zone IS NOT NULL"
    ") SELECT zone FROM found WHERE zone IS NOT NULL"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Looked:
    """A batch: how many people were due, and how many messages were queued."""

    due: int
    queued: int


def any_active(connection: Connection) -> bool:
    """Return whether any sequence was applied and is not paused."""
    active = select(StoredSequence.c.id).where(StoredSequence.c.paused_at.is_(None))
    return connection.scalar(active.limit(1)) is not None


def look(database: Database, settings: Settings, *, at: datetime) -> int:
    """Let people enter the sequences that are not paused, and queue what is due; return how many messages."""
    with database.reading() as connection:
        active = select(StoredSequence.c.id, StoredSequence.c.name).where(
            StoredSequence.c.paused_at.is_(None)
        )
        found = connection.execute(active).all()
    queued = 0
    for sequence_id, name in found:
        try:
            queued += _look_at(database, sequence_id, settings, at=at)
        except MailerError as error:
            # For example, a segment is no longer in config.toml; the other sequences continue.
            _log.error("sequence %s: %s", name, error)
    return queued


def _look_at(database: Database, sequence_id: int, settings: Settings, *, at: datetime) -> int:
    with database.transaction() as connection:
        if (sequence := _locked(connection, sequence_id)) is None:
            return 0
        enter_new(connection, sequence, at=at)
        _stop_retries(connection, sequence, settings, at=at)
        # The last step first: nobody gets two steps in one look.
        ids = [
            step.id
            for step in reversed(steps_of(connection, sequence_id))
            if _due(connection, sequence, step, at=at, limit=1)
        ]
    queued = 0
    for step_id in ids:
        while True:
            with database.transaction() as connection:
                looked = _step(connection, sequence_id, step_id, settings, at=at)
            queued += looked.queued
            if looked.due < BATCH:
                break
    return queued


def steps_of(connection: Connection, sequence_id: int) -> Many[TableRow]:
    """Return the steps of a sequence in their order, without those that were removed."""
    ours = SequenceStep.c.sequence_id == sequence_id, SequenceStep.c.removed_at.is_(None)
    return connection.execute(select(SequenceStep).where(*ours).order_by(SequenceStep.c.position)).all()


def enter_new(connection: Connection, sequence: TableRow, *, at: datetime) -> int:
    """Let everyone enter who has met the trigger since the last look; return how many."""
    kind, _, value = sequence.trigger.partition(":")
    match kind:
        case "confirmed":
            return _enter_confirmed(connection, sequence)
        case "tag":
            tagged = select(SubscriberTag.c.subscriber_id, microseconds(at)).where(
                SubscriberTag.c.tag == value
            )
            return _insert(connection, sequence, tagged)
        case "date":
            return _enter_dated(connection, sequence, value, at=at)
        case _:
            return 0


def enter(connection: Connection, sequence: TableRow, condition: ColumnElement[bool], *, at: datetime) -> int:
    """Let the active subscribers who match a condition enter, unless they did before; return how many."""
    return _insert(connection, sequence, select(Subscriber.c.id, microseconds(at)).where(condition))


def enter_one(connection: Connection, name: str, address: Address, *, at: datetime) -> None:
    """Let one subscriber enter a sequence, whatever its trigger.

    Raises `SourceError` if the sequence was never applied, and `RefusedError` if the address is not an active
    subscriber, or was in the sequence before.
    """
    sequence = connection.execute(select(StoredSequence).where(StoredSequence.c.name == name)).one_or_none()
    if sequence is None:
        raise SourceError(
            f"the sequence {name} was never applied", remedy=f"apply it with: mailer sequences apply {name}"
        )
    if not enter(connection, sequence, Subscriber.c.address_key == address.key, at=at):
        raise RefusedError(
            f"{address} is not an active subscriber, or was in {name} before",
            remedy=f"see the history with: mailer why {address}",
        )


def _enter_confirmed(connection: Connection, sequence: TableRow) -> int:
    last = connection.scalar(select(func.max(Consent.c.id))) or 0
    overlap = 0 if connection.dialect.name == "sqlite" else _OVERLAP
    if last <= sequence.mark and not overlap:
        return 0
    # When the person became active.
    confirmed = (
        select(Consent.c.subscriber_id, func.min(type_coerce(Consent.c.at, BigInteger)))
        .join(Subscriber, Subscriber.c.id == Consent.c.subscriber_id)
        .where(
            Consent.c.id > max(sequence.mark - overlap, sequence.floor),
            Consent.c.id <= last,
            Consent.c.after == SubscriberStatus.ACTIVE.value,
            Consent.c.before != SubscriberStatus.ACTIVE.value,
            Consent.c.way.in_(sorted(PERSONAL_WAYS)),
        )
        .group_by(Consent.c.subscriber_id)
    )
    entered = _insert(connection, sequence, confirmed)
    _advance(connection, sequence, last)
    return entered


def _enter_dated(connection: Connection, sequence: TableRow, attribute: str, *, at: datetime) -> int:
    """Look for people whose date has come; an attribute has no index, so only once an hour."""
    hour = (at - EPOCH) // HOUR
    if hour <= sequence.mark:
        return 0
    first = max((EPOCH + sequence.mark * HOUR).date(), at.date() - timedelta(days=_LATE_DAYS))
    days = [(first + timedelta(days=n)).isoformat() for n in range((at.date() - first).days + 1)]
    written = func.substr(Subscriber.c.attributes[attribute].as_string(), 1, 10)
    entered = enter(connection, sequence, written.in_(days), at=at)
    _advance(connection, sequence, hour)
    return entered


def _advance(connection: Connection, sequence: TableRow, mark: int) -> None:
    """Write how far the trigger of a sequence was looked for."""
    if mark != sequence.mark:
        connection.execute(update(StoredSequence).where(StoredSequence.c.id == sequence.id).values(mark=mark))


def _insert(connection: Connection, sequence: TableRow, people: Any) -> int:
    """Insert members from a SELECT of subscribers and the microseconds at which they entered."""
    steps = steps_of(connection, sequence.id)
    if not steps:
        return 0
    found = people.subquery()
    who, entered = found.c
    inside = exists().where(_M.sequence_id == sequence.id, _M.subscriber_id == who)
    rows = (
        select(
            literal(sequence.id),
            who,
            entered,
            entered,
            literal(steps[0].id),
            _zone(),
            entered + literal(steps[0].after_seconds * 1_000_000, BigInteger()),
            literal(""),
            select(func.coalesce(func.max(Consent.c.id), 0))
            .where(Consent.c.subscriber_id == who)
            .scalar_subquery(),
        )
        .join(Subscriber, Subscriber.c.id == who)
        .where(~inside, Subscriber.c.status == SubscriberStatus.ACTIVE.value)
    )
    columns = [
        "sequence_id",
        "subscriber_id",
        "entered_at",
        "since_at",
        "next_step_id",
        "zone",
        "due_at",
        "why",
        "line",
    ]
    added = connection.execute(
        insert(SequenceMember).from_select(columns, rows), execution_options={"preserve_rowcount": True}
    )
    return added.rowcount


def _step(
    connection: Connection, sequence_id: int, step_id: int, settings: Settings, *, at: datetime
) -> _Looked:
    """Queue a step for a batch of the people who are due, and move them on to the next step."""
    sequence = _locked(connection, sequence_id)
    step = connection.execute(select(SequenceStep).where(SequenceStep.c.id == step_id)).one()
    if sequence is None or step.removed_at is not None:
        return _Looked(0, 0)
    ids = _due(connection, sequence, step, at=at, limit=BATCH)
    if not ids:
        return _Looked(0, 0)
    _let_go(connection, sequence, ids, settings, at=at)
    ready = and_(_M.sequence_id == sequence.id, _M.next_step_id == step.id, _M.due_at <= at)
    queued = _queue(connection, step, ready, ids, settings)
    later = next((one for one in steps_of(connection, sequence.id) if one.position > step.position), None)
    values: dict[str, object] = {"since_at": at, "zone": _their_zone()}
    if later is None:
        values |= {"next_step_id": None, "due_at": None, "ended_at": at, "why": "finished"}
    else:
        values |= {"next_step_id": later.id, "due_at": at + timedelta(seconds=later.after_seconds)}
    connection.execute(
        update(SequenceMember).where(ready, among(_M.subscriber_id, "ids")).values(values), {"ids": ids}
    )
    return _Looked(len(ids), queued)


def _due(
    connection: Connection, sequence: TableRow, step: TableRow, *, at: datetime, limit: int
) -> list[int]:
    """Return up to `limit` people whose step is due."""
    theirs = connection.scalars(_ZONES, {"step_id": step.id})
    slots = open_slots(step.minute, set(map(int, step.days)), theirs, sequence.zone, at=at)
    found: list[int] = []
    for begin, zones in slots.items():
        wanted = select(_M.subscriber_id).where(
            _M.next_step_id == step.id, _M.zone.in_(zones), _M.due_at <= begin
        )
        found += connection.scalars(wanted.limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def _let_go(
    connection: Connection, sequence: TableRow, ids: list[int], settings: Settings, *, at: datetime
) -> None:
    """End the membership of those who left or reached the goal; let those who paused wait."""
    theirs = Subscriber.c.id == _M.subscriber_id
    ours = and_(_M.sequence_id == sequence.id, among(_M.subscriber_id, "ids"))
    mailable = exists().where(
        theirs,
        Subscriber.c.status == SubscriberStatus.ACTIVE.value,
        ~exists().where(Suppression.c.address_key == Subscriber.c.address_key),
    )
    # Someone who left and came back does not continue.
    left = exists().where(
        Consent.c.subscriber_id == _M.subscriber_id,
        Consent.c.id > _M.line,
        Consent.c.before == SubscriberStatus.ACTIVE.value,
        Consent.c.after != SubscriberStatus.ACTIVE.value,
    )
    ended: dict[str, object] = {"next_step_id": None, "due_at": None, "ended_at": at}
    connection.execute(
        update(SequenceMember).where(ours, or_(~mailable, left)).values(ended | {"why": "left"}), {"ids": ids}
    )
    if sequence.goal:
        reached = exists().where(theirs, condition_of(settings, sequence.goal))
        connection.execute(
            update(SequenceMember).where(ours, reached).values(ended | {"why": "goal"}), {"ids": ids}
        )
    pause = select(Subscriber.c.paused_until).where(theirs).scalar_subquery()
    waits = exists().where(theirs, Subscriber.c.paused_until > at)
    connection.execute(
        update(SequenceMember).where(ours, _M.next_step_id.is_not(None), waits).values(due_at=pause),
        {"ids": ids},
    )


def _queue(
    connection: Connection, step: TableRow, ready: ColumnElement[bool], ids: list[int], settings: Settings
) -> int:
    """Queue deliveries of a step; return how many."""
    issue_id = step.issue_id
    state = connection.scalars(select(StoredIssue.c.state).where(StoredIssue.c.id == issue_id)).one()
    if state == IssueState.CANCELLED.value:
        return 0
    has_it = exists().where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == Subscriber.c.id)
    wanted = (
        select(literal(issue_id), Subscriber.c.id, literal(DeliveryState.QUEUED.value))
        .join(SequenceMember, _M.subscriber_id == Subscriber.c.id)
        .where(ready, among(Subscriber.c.id, "ids"), ~has_it, condition_of(settings, step.segment))
        .order_by(Subscriber.c.id)
    )
    added = connection.execute(
        insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted.params(ids=ids)),
        execution_options={"preserve_rowcount": True},
    ).rowcount
    if added:
        running_totals.add(connection, issue_id, {DeliveryState.QUEUED.value: added})
        finished = StoredIssue.c.state == IssueState.FINISHED.value
        connection.execute(
            update(StoredIssue)
            .where(StoredIssue.c.id == issue_id)
            .values(
                audience=StoredIssue.c.audience + added,
                state=case((finished, IssueState.SENDING.value), else_=StoredIssue.c.state),
                finished_at=None,
            )
        )
    return added


def _stop_retries(connection: Connection, sequence: TableRow, settings: Settings, *, at: datetime) -> None:
    """Skip the messages that wait for a retry and whose reader has reached the goal."""
    if sequence.goal:
        for step in steps_of(connection, sequence.id):
            control.skip_deferred(
                connection,
                step.issue_id,
                condition_of(settings, sequence.goal),
                "the goal was reached",
                at=at,
            )


def condition_of(settings: Settings, segment: str) -> ColumnElement[bool]:
    """Return the condition of a segment; without a segment, one that is always true."""
    if not segment:
        return true()
    # Imported here: the parser takes long to load.
    from mailer.audience.segments import parse_segment

    return parse_segment(segment, settings.segments).condition


def _locked(connection: Connection, sequence_id: int) -> TableRow | None:
    """Lock and return a sequence; None if it is paused."""
    wanted = select(StoredSequence).where(
        StoredSequence.c.id == sequence_id, StoredSequence.c.paused_at.is_(None)
    )
    return connection.execute(wanted.with_for_update()).one_or_none()


def microseconds(at: datetime) -> ColumnElement[int]:
    """Return an instant as an integer of the database."""
    return literal(to_microseconds(at), BigInteger())


def _zone() -> ColumnElement[str]:
    """Return a subscriber's time zone; empty if they have none that is known."""
    written = Subscriber.c.attributes[ATTRIBUTE].as_string()
    return case((written.in_(known_zones()), written), else_="")


def _their_zone() -> ColumnElement[str]:
    zone = select(_zone()).where(Subscriber.c.id == _M.subscriber_id).scalar_subquery()
    return func.coalesce(zone, "")
