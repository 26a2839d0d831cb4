"""Putting the files of a sequence into effect, and explaining beforehand what that changes.

A step is known by the name of its file, and a renamed file by its content. Nobody gets a step twice: the
deliveries of a step stay with it when its text, its time or its place changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Select,
    case,
    func,
    insert,
    literal,
    select,
    type_coerce,
    update,
)

from mailer.config import Sequence
from mailer.database.columns import Instant
from mailer.database.tables import (
    Consent,
    Delivery,
    IssueState,
    ReplacedEdition,
    SequenceMember,
    SequenceStep,
    StoredIssue,
    StoredSequence,
    SubscriberTag,
    TableRow,
)
from mailer.delivery import control, issues
from mailer.delivery.sequences.files import WrittenStep, slug_of
from mailer.delivery.sequences.looking import EPOCH, HOUR, microseconds, steps_of
from mailer.errors import RefusedError
from mailer.printable import counted

_M = SequenceMember.c


@dataclass(frozen=True, slots=True)
class Change:
    """The change to one step."""

    step: str
    kind: str
    """new, changed, unchanged or removed."""
    said: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that `apply` would make to a sequence."""

    name: str
    new: bool
    settings: tuple[str, ...]
    """The keys of config.toml that change."""
    changes: tuple[Change, ...]

    @property
    def changes_something(self) -> bool:
        """Whether applying it has any effect."""
        return self.new or bool(self.settings) or any(one.kind != "unchanged" for one in self.changes)


@dataclass(slots=True)
class _Matched:
    """The stored steps, matched with the files."""

    kept: dict[str, TableRow] = field(default_factory=dict)
    """By the name of the file."""
    removed: list[TableRow] = field(default_factory=list)


def find(connection: Connection, name: str) -> TableRow | None:
    """Return a stored sequence, or None."""
    return connection.execute(_called(name)).one_or_none()


def _called(name: str) -> Select[*tuple[Any, ...]]:
    return select(StoredSequence).where(StoredSequence.c.name == name)


def links_of(connection: Connection, name: str) -> dict[str, tuple[str, ...]]:
    """Return the tracked links of each stored step, by its name."""
    if (stored := find(connection, name)) is None:
        return {}
    return {
        step.name: issues.edition(connection, issues.get(connection, step.issue_id).edition_digest).links
        for step in steps_of(connection, stored.id)
    }


def plan(connection: Connection, name: str, sequence: Sequence, steps: Many[WrittenStep]) -> Plan:
    """Return the changes that applying the files of a sequence would make."""
    stored = find(connection, name)
    if stored is None:
        changes = [Change(step.name, "new", _when(step, place)) for place, step in enumerate(steps)]
        return Plan(name, True, (), tuple(changes))
    keys = [
        key
        for key, before in (("trigger", stored.trigger), ("goal", stored.goal), ("zone", stored.zone))
        if before != getattr(sequence, key)
    ]
    matched = _match(connection, stored.id, steps)
    changes = [
        _change(connection, matched.kept.get(step.name), step, place) for place, step in enumerate(steps)
    ]
    for step in matched.removed:
        waiting = _count_waiting(connection, step.id)
        said = f"{counted(waiting, 'person', 'people')} will go on to the step after it"
        changes.append(Change(step.name, "removed", said))
    return Plan(name, False, tuple(keys), tuple(changes))


def apply(
    connection: Connection, name: str, sequence: Sequence, steps: Many[WrittenStep], *, at: datetime
) -> int:
    """Put the files of a sequence into effect, and return its id.

    People who wait for a step keep their place. Those who are past the place of a new step do not get it,
    and neither do those who have finished.
    """
    stored = connection.execute(_called(name).with_for_update()).one_or_none()
    values = {"trigger": sequence.trigger, "goal": sequence.goal, "zone": sequence.zone}
    if stored is None:
        sequence_id = connection.execute(
            insert(StoredSequence).values(name=name, created_at=at, **values).returning(StoredSequence.c.id)
        ).scalar_one()
        before: Many[TableRow] = ()
    else:
        sequence_id = stored.id
        before = steps_of(connection, sequence_id)
        _change_sequence(connection, sequence_id, values)
    matched = _match(connection, sequence_id, steps)
    if matched.removed:
        removed = SequenceStep.c.id.in_([step.id for step in matched.removed])
        connection.execute(update(SequenceStep).where(removed).values(removed_at=at))
    for place, step in enumerate(steps):
        _store(connection, name, sequence_id, matched.kept.get(step.name), step, place, at=at)
    _move(connection, sequence_id, before, steps_of(connection, sequence_id), at=at)
    if stored is None or stored.trigger != sequence.trigger:
        _set_mark(connection, sequence_id, sequence.trigger, at=at)
    return sequence_id


def _change_sequence(connection: Connection, sequence_id: int, values: Mapping[str, object]) -> None:
    connection.execute(update(StoredSequence).where(StoredSequence.c.id == sequence_id).values(values))


def pause(connection: Connection, name: str, *, at: datetime) -> bool:
    """Stop queueing the steps of a sequence, and pause those that are being sent.

    Returns whether that changed anything. Raises `RefusedError` if there is no such sequence.
    """
    stored = _named(connection, name)
    if stored.paused_at is not None:
        return False
    _change_sequence(connection, stored.id, {"paused_at": at})
    for step in steps_of(connection, stored.id):
        control.pause(connection, step.issue_id, _PAUSED)
    return True


def resume(connection: Connection, name: str) -> bool:
    """Resume a paused sequence; return whether it was paused. Messages that came due meanwhile follow."""
    stored = _named(connection, name)
    if stored.paused_at is None:
        return False
    _change_sequence(connection, stored.id, {"paused_at": None})
    for step in steps_of(connection, stored.id):
        if issues.get(connection, step.issue_id).reason == _PAUSED:
            control.resume(connection, step.issue_id)
    return True


_PAUSED = "the sequence is paused"


def _named(connection: Connection, name: str) -> TableRow:
    stored = connection.execute(_called(name).with_for_update()).one_or_none()
    if stored is None:
        raise RefusedError(
            f"the sequence {name} was never applied", remedy=f"apply it with: mailer sequences apply {name}"
        )
    return stored


def _match(connection: Connection, sequence_id: int, steps: Many[WrittenStep]) -> _Matched:
    """Match stored steps with files: by name, and the rest by content.

    A file that comes back is the step that was removed, so those who had it do not get it again.
    """
    ours = select(SequenceStep).where(SequenceStep.c.sequence_id == sequence_id)
    # Those that are not removed come last, and take the name.
    every = connection.execute(ours.order_by(SequenceStep.c.removed_at.is_(None), SequenceStep.c.id)).all()
    found, left = _Matched(), {step.name: step for step in every}
    for step in steps:
        if step.name in left:
            found.kept[step.name] = left.pop(step.name)
    sources = {_source(connection, step): step for step in left.values()}
    for step in steps:
        renamed = sources.pop(step.edition.made_of["source"], None)
        if step.name not in found.kept and renamed is not None:
            found.kept[step.name] = left.pop(renamed.name)
    found.removed = [step for step in left.values() if step.removed_at is None]
    return found


def _source(connection: Connection, step: TableRow) -> str:
    digest = issues.get(connection, step.issue_id).edition_digest
    return issues.edition(connection, digest).made_of["source"]


def _change(connection: Connection, before: TableRow | None, step: WrittenStep, place: int) -> Change:
    if before is None:
        return Change(step.name, "new", f"{_when(step, place)}; those who are past its place do not get it")
    told = []
    if before.removed_at is not None:
        told.append("it comes back")
    if before.name != step.name:
        told.append(f"renamed from {before.name}")
    if issues.get(connection, before.issue_id).edition_digest != step.edition.digest:
        told.append("its content changes")
    if (before.after_seconds, before.minute, before.days, before.segment) != _timing(step):
        told.append(f"its time becomes: {_when(step, place)}")
    if before.position != place:
        told.append(f"it moves from place {before.position + 1} to {place + 1}")
    if not told:
        return Change(step.name, "unchanged", _when(step, place))
    have = connection.scalar(select(func.count()).where(Delivery.c.issue_id == before.issue_id)) or 0
    told.append(
        f"{counted(have, 'person', 'people')} got it and will not get it again,"
        f" {counted(_count_waiting(connection, before.id), 'person', 'people')} will get it next"
    )
    return Change(step.name, "changed", "; ".join(told))


def _count_waiting(connection: Connection, step_id: int) -> int:
    return connection.scalar(select(func.count()).where(_M.next_step_id == step_id)) or 0


def _when(step: WrittenStep, place: int) -> str:
    from mailer.rendering.source.front_values import DAYS

    timing = step.timing
    told = [f"{_spoken(timing.after)} after {'the previous step' if place else 'they enter'}"]
    if timing.send_at is not None:
        told.append(f"at {timing.send_at:%H:%M}")
    if timing.days:
        told.append(f"on {', '.join(DAYS[day] for day in timing.days)}")
    return " ".join(told) + (f"; only for {timing.only}" if timing.only else "")


def _spoken(wait: timedelta) -> str:
    if wait.days and not wait.seconds:
        return f"{wait.days} {'day' if wait.days == 1 else 'days'}"
    return str(wait) if wait else "immediately"


def _timing(step: WrittenStep) -> tuple[int, int | None, str, str]:
    timing = step.timing
    minute = None if timing.send_at is None else timing.send_at.hour * 60 + timing.send_at.minute
    return int(timing.after.total_seconds()), minute, "".join(map(str, timing.days)), timing.only


def _store(
    connection: Connection,
    sequence: str,
    sequence_id: int,
    known: TableRow | None,
    step: WrittenStep,
    place: int,
    *,
    at: datetime,
) -> None:
    """Write a step and its issue."""
    digest = issues.freeze(connection, step.edition, at=at)
    written = {"edition_digest": digest, "title": step.edition.title, "source_path": str(step.path)}
    after_seconds, minute, days, segment = _timing(step)
    values = {
        "name": step.name, "position": place, "after_seconds": after_seconds, "minute": minute, "days": days,
        "segment": segment, "removed_at": None,
    }  # fmt: skip
    if known is None:
        issue_id = connection.execute(
            insert(StoredIssue)
            .values(
                slug=_free_slug(connection, sequence, sequence_id, step.name),
                state=IssueState.FINISHED.value,
                segment=f"sequence {sequence}",
                dated_at=at,
                created_at=at,
                finished_at=at,
                sequence_id=sequence_id,
                **written,
            )
            .returning(StoredIssue.c.id)
        ).scalar_one()
        connection.execute(insert(SequenceStep).values(sequence_id=sequence_id, issue_id=issue_id, **values))
        return
    stored = StoredIssue.c.id == known.issue_id
    before, path = connection.execute(
        select(StoredIssue.c.edition_digest, StoredIssue.c.source_path).where(stored)
    ).one()
    if before != digest:
        number = issues.edition_number(connection, known.issue_id)
        connection.execute(
            insert(ReplacedEdition).values(
                issue_id=known.issue_id, number=number, digest=before, replaced_at=at
            )
        )
    if (before, path) != (digest, str(step.path)):
        connection.execute(update(StoredIssue).where(stored).values(written))
    connection.execute(update(SequenceStep).where(SequenceStep.c.id == known.id).values(values))


def _free_slug(connection: Connection, sequence: str, sequence_id: int, step: str) -> str:
    """Return the slug of a new step; raise `RefusedError` if another issue has it.

    A step that was renamed keeps its slug, so a new one of the same name gets a number.
    """
    slug = slug_of(sequence, step)
    free, number = slug, 1
    while (known := issues.find(connection, free)) is not None:
        if known.sequence_id != sequence_id:
            raise RefusedError(f"there is an issue {free} already", remedy=f"rename the file of {step}")
        number += 1
        free = f"{slug}-{number}"
    return free


def _move(
    connection: Connection,
    sequence_id: int,
    before: Many[TableRow],
    after: Many[TableRow],
    *,
    at: datetime,
) -> None:
    """Let everyone wait for the right step: the first one in the new order that they may still get."""
    if not before:
        return
    following = {step.id: next_after(before[:place], before, after) for place, step in enumerate(before)}
    waiting = {one.id: to for one in before if (to := following[one.id]) is not None}
    ids = {old: to.id for old, to in waiting.items()}
    seconds = {old: to.after_seconds for old, to in waiting.items()}
    inside = _M.sequence_id == sequence_id, _M.next_step_id.is_not(None)
    values: dict[str, object] = {"next_step_id": None, "due_at": None}
    if waiting:
        wait = case(seconds, value=_M.next_step_id, else_=literal(0, BigInteger())) * 1_000_000
        due = type_coerce(_M.since_at, BigInteger) + wait
        values = {
            "next_step_id": case(ids, value=_M.next_step_id),
            "due_at": type_coerce(due, Instant()),
        }
    connection.execute(update(SequenceMember).where(*inside).values(values))
    ended = update(SequenceMember).where(
        _M.sequence_id == sequence_id, _M.next_step_id.is_(None), _M.ended_at.is_(None)
    )
    connection.execute(ended.values(ended_at=at, due_at=None, why="finished"))


def next_after(had: Many[TableRow], before: Many[TableRow], after: Many[TableRow]) -> TableRow | None:
    """Return the first step of the new order for someone who had these steps of the old order.

    That is one they have not had: an old one, or a new one behind all that they had.
    """
    theirs, old = {step.id for step in had}, {step.id for step in before}
    last = max((place for place, step in enumerate(after) if step.id in theirs), default=-1)
    return next(
        (
            step
            for place, step in enumerate(after)
            if step.id not in theirs and (step.id in old or place > last)
        ),
        None,
    )


def _set_mark(connection: Connection, sequence_id: int, trigger: str, *, at: datetime) -> None:
    """Let only what happens from now on trigger the sequence."""
    kind, _, value = trigger.partition(":")
    match kind:
        case "confirmed":
            last = connection.scalar(select(func.max(Consent.c.id))) or 0
            _change_sequence(connection, sequence_id, {"mark": last, "floor": last})
        case "date":
            _change_sequence(connection, sequence_id, {"mark": (at - EPOCH) // HOUR - 1})
        case "tag":
            _keep_out(connection, sequence_id, value, at=at)
        case _:
            _change_sequence(connection, sequence_id, {"mark": 0})


def _keep_out(connection: Connection, sequence_id: int, tag: str, *, at: datetime) -> None:
    """Keep those who have a tag already out of a sequence that it triggers."""
    inside = select(_M.subscriber_id).where(_M.sequence_id == sequence_id)
    had = select(
        literal(sequence_id),
        SubscriberTag.c.subscriber_id,
        microseconds(at),
        microseconds(at),
        microseconds(at),
        literal("before"),
    ).where(SubscriberTag.c.tag == tag, SubscriberTag.c.subscriber_id.not_in(inside))
    columns = ["sequence_id", "subscriber_id", "entered_at", "since_at", "ended_at", "why"]
    connection.execute(insert(SequenceMember).from_select(columns, had))
