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
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience.transitions import PERSONAL_WAYS
from mailer.config import Settings
from mailer.database import running_totals
from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.models import (
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
)
from mailer.database.session import Database
from mailer.delivery import control
from mailer.delivery.issues import count_of
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
_M: Final = SequenceMember
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


def any_active(session: Session) -> bool:
    """Return whether any sequence was applied and is not paused."""
    active = select(StoredSequence.id).where(StoredSequence.paused_at.is_(None))
    return session.scalar(active.limit(1)) is not None


def look(database: Database, settings: Settings, *, at: datetime) -> int:
    """Let people enter the sequences that are not paused, and queue what is due; return how many messages."""
    with database.reading() as session:
        active = select(StoredSequence.id, StoredSequence.name).where(StoredSequence.paused_at.is_(None))
        found = session.execute(active).all()
    queued = 0
    for sequence_id, name in found:
        try:
            queued += _look_at(database, sequence_id, settings, at=at)
        except MailerError as error:
            # For example, a segment is no longer in config.toml; the other sequences continue.
            _log.error("sequence %s: %s", name, error)
    return queued


def _look_at(database: Database, sequence_id: int, settings: Settings, *, at: datetime) -> int:
    with database.transaction() as session:
        if (sequence := _locked(session, sequence_id)) is None:
            return 0
        enter_new(session, sequence, at=at)
        _stop_retries(session, sequence, settings, at=at)
        # The last step first: nobody gets two steps in one look.
        ids = [
            step.id
            for step in reversed(steps_of(session, sequence_id))
            if _due(session, sequence, step, at=at, limit=1)
        ]
    queued = 0
    for step_id in ids:
        while True:
            with database.transaction() as session:
                looked = _step(session, sequence_id, step_id, settings, at=at)
            queued += looked.queued
            if looked.due < BATCH:
                break
    return queued


def steps_of(session: Session, sequence_id: int) -> Many[SequenceStep]:
    """Return the steps of a sequence in their order, without those that were removed."""
    ours = SequenceStep.sequence_id == sequence_id, SequenceStep.removed_at.is_(None)
    return session.scalars(select(SequenceStep).where(*ours).order_by(SequenceStep.position)).all()


def enter_new(session: Session, sequence: StoredSequence, *, at: datetime) -> int:
    """Let everyone enter whose trigger has come since the last look; return how many."""
    kind, _, value = sequence.trigger.partition(":")
    match kind:
        case "confirmed":
            return _enter_confirmed(session, sequence)
        case "tag":
            tagged = select(SubscriberTag.subscriber_id, microseconds(at)).where(SubscriberTag.tag == value)
            return _insert(session, sequence, tagged)
        case "date":
            return _enter_dated(session, sequence, value, at=at)
        case _:
            return 0


def enter(session: Session, sequence: StoredSequence, condition: ColumnElement[bool], *, at: datetime) -> int:
    """Let the active subscribers of a condition enter who never did before; return how many."""
    return _insert(session, sequence, select(Subscriber.id, microseconds(at)).where(condition))


def enter_one(session: Session, name: str, address: Address, *, at: datetime) -> None:
    """Let one subscriber enter a sequence, whatever its trigger.

    Raises `SourceError` if the sequence was never applied, and `RefusedError` if the address is not an active
    subscriber, or was in the sequence before.
    """
    sequence = session.scalar(select(StoredSequence).where(StoredSequence.name == name))
    if sequence is None:
        raise SourceError(
            f"the sequence {name} was never applied", remedy=f"apply it with: mailer sequences apply {name}"
        )
    if not enter(session, sequence, Subscriber.address_key == address.key, at=at):
        raise RefusedError(
            f"{address} is not an active subscriber, or was in {name} before",
            remedy=f"see the history with: mailer why {address}",
        )


def _enter_confirmed(session: Session, sequence: StoredSequence) -> int:
    last = session.scalar(select(func.max(Consent.id))) or 0
    overlap = 0 if session.get_bind().dialect.name == "sqlite" else _OVERLAP
    if last <= sequence.mark and not overlap:
        return 0
    # When the person became active.
    confirmed = (
        select(Consent.subscriber_id, func.min(type_coerce(Consent.at, BigInteger)))
        .join(Subscriber, Subscriber.id == Consent.subscriber_id)
        .where(
            Consent.id > max(sequence.mark - overlap, sequence.floor),
            Consent.id <= last,
            Consent.after == SubscriberStatus.ACTIVE.value,
            Consent.before != SubscriberStatus.ACTIVE.value,
            Consent.way.in_(sorted(PERSONAL_WAYS)),
        )
        .group_by(Consent.subscriber_id)
    )
    entered = _insert(session, sequence, confirmed)
    sequence.mark = last
    return entered


def _enter_dated(session: Session, sequence: StoredSequence, attribute: str, *, at: datetime) -> int:
    """Look for people whose date has come; an attribute has no index, so only once an hour."""
    hour = (at - EPOCH) // HOUR
    if hour <= sequence.mark:
        return 0
    first = max((EPOCH + sequence.mark * HOUR).date(), at.date() - timedelta(days=_LATE_DAYS))
    days = [(first + timedelta(days=n)).isoformat() for n in range((at.date() - first).days + 1)]
    written = func.substr(Subscriber.attributes[attribute].as_string(), 1, 10)
    entered = enter(session, sequence, written.in_(days), at=at)
    sequence.mark = hour
    return entered


def _insert(session: Session, sequence: StoredSequence, people: Any) -> int:
    """Insert members from a SELECT of subscribers and the microseconds at which they entered."""
    steps = steps_of(session, sequence.id)
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
            select(func.coalesce(func.max(Consent.id), 0))
            .where(Consent.subscriber_id == who)
            .scalar_subquery(),
        )
        .join(Subscriber, Subscriber.id == who)
        .where(~inside, Subscriber.status == SubscriberStatus.ACTIVE.value)
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
    added = session.execute(
        insert(SequenceMember).from_select(columns, rows), execution_options={"preserve_rowcount": True}
    )
    return count_of(added)


def _step(session: Session, sequence_id: int, step_id: int, settings: Settings, *, at: datetime) -> _Looked:
    """Queue a step for a batch of the people who are due, and move them on to the next step."""
    sequence, step = _locked(session, sequence_id), session.get_one(SequenceStep, step_id)
    if sequence is None or step.removed_at is not None:
        return _Looked(0, 0)
    ids = _due(session, sequence, step, at=at, limit=BATCH)
    if not ids:
        return _Looked(0, 0)
    _let_go(session, sequence, ids, settings, at=at)
    ready = and_(_M.sequence_id == sequence.id, _M.next_step_id == step.id, _M.due_at <= at)
    queued = _queue(session, step, ready, ids, settings)
    later = next((one for one in steps_of(session, sequence.id) if one.position > step.position), None)
    values: dict[str, object] = {"since_at": at, "zone": _their_zone()}
    if later is None:
        values |= {"next_step_id": None, "due_at": None, "ended_at": at, "why": "finished"}
    else:
        values |= {"next_step_id": later.id, "due_at": at + timedelta(seconds=later.after_seconds)}
    session.connection().execute(
        update(_M).where(ready, among(_M.subscriber_id, "ids")).values(values), {"ids": ids}
    )
    return _Looked(len(ids), queued)


def _due(
    session: Session, sequence: StoredSequence, step: SequenceStep, *, at: datetime, limit: int
) -> list[int]:
    """Return up to `limit` people whose step is due."""
    theirs = session.scalars(_ZONES, {"step_id": step.id})
    slots = open_slots(step.minute, set(map(int, step.days)), theirs, sequence.zone, at=at)
    found: list[int] = []
    for begin, zones in slots.items():
        wanted = select(_M.subscriber_id).where(
            _M.next_step_id == step.id, _M.zone.in_(zones), _M.due_at <= begin
        )
        found += session.scalars(wanted.limit(limit - len(found)))
        if len(found) == limit:
            break
    return found


def _let_go(
    session: Session, sequence: StoredSequence, ids: list[int], settings: Settings, *, at: datetime
) -> None:
    """End the membership of those who left or reached the goal; let those who paused wait."""
    theirs = Subscriber.id == _M.subscriber_id
    ours = and_(_M.sequence_id == sequence.id, among(_M.subscriber_id, "ids"))
    mailable = exists().where(
        theirs,
        Subscriber.status == SubscriberStatus.ACTIVE.value,
        ~exists().where(Suppression.address_key == Subscriber.address_key),
    )
    # Someone who left and came back does not continue.
    left = exists().where(
        Consent.subscriber_id == _M.subscriber_id,
        Consent.id > _M.line,
        Consent.before == SubscriberStatus.ACTIVE.value,
        Consent.after != SubscriberStatus.ACTIVE.value,
    )
    ended: dict[str, object] = {"next_step_id": None, "due_at": None, "ended_at": at}
    session.connection().execute(
        update(_M).where(ours, or_(~mailable, left)).values(ended | {"why": "left"}), {"ids": ids}
    )
    if sequence.goal:
        reached = exists().where(theirs, condition_of(settings, sequence.goal))
        session.connection().execute(
            update(_M).where(ours, reached).values(ended | {"why": "goal"}), {"ids": ids}
        )
    pause = select(Subscriber.paused_until).where(theirs).scalar_subquery()
    waits = exists().where(theirs, Subscriber.paused_until > at)
    session.connection().execute(
        update(_M).where(ours, _M.next_step_id.is_not(None), waits).values(due_at=pause), {"ids": ids}
    )


def _queue(
    session: Session, step: SequenceStep, ready: ColumnElement[bool], ids: list[int], settings: Settings
) -> int:
    """Queue deliveries of a step; return how many."""
    issue = session.get_one(StoredIssue, step.issue_id, populate_existing=True)
    if issue.state == IssueState.CANCELLED.value:
        return 0
    has_it = exists().where(Delivery.issue_id == issue.id, Delivery.subscriber_id == Subscriber.id)
    wanted = (
        select(literal(issue.id), Subscriber.id, literal(DeliveryState.QUEUED.value))
        .join(_M, _M.subscriber_id == Subscriber.id)
        .where(ready, among(Subscriber.id, "ids"), ~has_it, condition_of(settings, step.segment))
        .order_by(Subscriber.id)
    )
    added = count_of(
        session.execute(
            insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted.params(ids=ids)),
            execution_options={"preserve_rowcount": True},
        )
    )
    if added:
        running_totals.add(session, issue.id, {DeliveryState.QUEUED.value: added})
        finished = StoredIssue.state == IssueState.FINISHED.value
        session.execute(
            update(StoredIssue)
            .where(StoredIssue.id == issue.id)
            .values(
                audience=StoredIssue.audience + added,
                state=case((finished, IssueState.SENDING.value), else_=StoredIssue.state),
                finished_at=None,
            )
        )
    return added


def _stop_retries(session: Session, sequence: StoredSequence, settings: Settings, *, at: datetime) -> None:
    """Skip the messages that wait for a retry and whose reader has reached the goal."""
    if sequence.goal:
        for step in steps_of(session, sequence.id):
            control.skip_deferred(
                session, step.issue_id, condition_of(settings, sequence.goal), "the goal was reached", at=at
            )


def condition_of(settings: Settings, segment: str) -> ColumnElement[bool]:
    """Return the condition of a segment; without a segment, one that is always true."""
    if not segment:
        return true()
    # Imported here: the parser takes long to load.
    from mailer.audience.segments import parse_segment

    return parse_segment(segment, settings.segments).condition


def _locked(session: Session, sequence_id: int) -> StoredSequence | None:
    """Lock and return a sequence; None if it is paused."""
    wanted = select(StoredSequence).where(
        StoredSequence.id == sequence_id, StoredSequence.paused_at.is_(None)
    )
    return session.scalar(wanted.with_for_update())


def microseconds(at: datetime) -> ColumnElement[int]:
    """Return an instant as an integer of the database."""
    return literal(to_microseconds(at), BigInteger())


def _zone() -> ColumnElement[str]:
    """Return a subscriber's time zone; empty if they have none that is known."""
    written = Subscriber.attributes[ATTRIBUTE].as_string()
    return case((written.in_(known_zones()), written), else_="")


def _their_zone() -> ColumnElement[str]:
    zone = select(_zone()).where(Subscriber.id == _M.subscriber_id).scalar_subquery()
    return func.coalesce(zone, "")
