"""Putting the files of a sequence into effect, and explaining beforehand what that changes.

A step is known by the name of its file, and a renamed file by its content. Nobody gets a step twice: the
deliveries of a step stay with it when its text, its time or its place changes.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, case, func, insert, literal, select, type_coerce, update
from sqlalchemy.orm import Session

from mailer.config import Sequence
from mailer.database.columns import Instant
from mailer.database.models import (
    Consent,
    Delivery,
    IssueState,
    ReplacedEdition,
    SequenceMember,
    SequenceStep,
    StoredIssue,
    StoredSequence,
    SubscriberTag,
)
from mailer.delivery import control, issues
from mailer.delivery.sequences.files import WrittenStep, slug_of
from mailer.delivery.sequences.looking import EPOCH, HOUR, microseconds, steps_of
from mailer.errors import RefusedError

_M = SequenceMember


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

    kept: dict[str, SequenceStep] = field(default_factory=dict)
    """By the name of the file."""
    removed: list[SequenceStep] = field(default_factory=list)


def find(session: Session, name: str) -> StoredSequence | None:
    """Return a stored sequence, or None."""
    return session.scalar(select(StoredSequence).where(StoredSequence.name == name))


def links_of(session: Session, name: str) -> dict[str, tuple[str, ...]]:
    """Return the tracked links of each stored step, by its name."""
    if (stored := find(session, name)) is None:
        return {}
    return {
        step.name: issues.edition(session, issues.get(session, step.issue_id).edition_digest).links
        for step in steps_of(session, stored.id)
    }


def plan(session: Session, name: str, sequence: Sequence, steps: Many[WrittenStep]) -> Plan:
    """Return the changes that applying the files of a sequence would make."""
    stored = find(session, name)
    if stored is None:
        changes = [Change(step.name, "new", _when(step)) for step in steps]
        return Plan(name, True, (), tuple(changes))
    keys = [
        key
        for key, before in (("trigger", stored.trigger), ("goal", stored.goal), ("zone", stored.zone))
        if before != getattr(sequence, key)
    ]
    matched = _match(session, stored, steps)
    changes = [_change(session, matched.kept.get(step.name), step, place) for place, step in enumerate(steps)]
    for step in matched.removed:
        waiting = _count_waiting(session, step.id)
        said = f"{waiting:,} who wait for it go on to the step after it"
        changes.append(Change(step.name, "removed", said))
    return Plan(name, False, tuple(keys), tuple(changes))


def apply(
    session: Session, name: str, sequence: Sequence, steps: Many[WrittenStep], *, at: datetime
) -> StoredSequence:
    """Put the files of a sequence into effect, and return it.

    People who wait for a step keep their place. Those who are past the place of a new step do not get it,
    and neither do those who have finished.
    """
    stored = session.scalar(select(StoredSequence).where(StoredSequence.name == name).with_for_update())
    new = stored is None
    if stored is None:
        stored = StoredSequence(name=name, created_at=at, trigger=sequence.trigger, mark=0)
        session.add(stored)
    before = [] if new else list(steps_of(session, stored.id))
    triggered = new or stored.trigger != sequence.trigger
    stored.trigger, stored.goal, stored.zone = sequence.trigger, sequence.goal, sequence.zone
    session.flush()
    matched = _match(session, stored, steps)
    for step in matched.removed:
        step.removed_at = at
    after = [
        _store(session, stored, matched.kept.get(step.name), step, place, at=at)
        for place, step in enumerate(steps)
    ]
    session.flush()
    _move(session, stored.id, before, after, at=at)
    if triggered:
        _set_mark(session, stored, at=at)
    return stored


def pause(session: Session, name: str, *, at: datetime) -> bool:
    """Stop queueing the steps of a sequence, and pause those that are being sent.

    Returns whether that changed anything. Raises `RefusedError` if there is no such sequence.
    """
    stored = _named(session, name)
    if stored.paused_at is not None:
        return False
    stored.paused_at = at
    for step in steps_of(session, stored.id):
        control.pause(session, step.issue_id, _PAUSED)
    return True


def resume(session: Session, name: str) -> bool:
    """Resume a paused sequence; return whether it was paused. Messages that came due meanwhile follow."""
    stored = _named(session, name)
    if stored.paused_at is None:
        return False
    stored.paused_at = None
    for step in steps_of(session, stored.id):
        if issues.get(session, step.issue_id).reason == _PAUSED:
            control.resume(session, step.issue_id)
    return True


_PAUSED = "the sequence is paused"


def _named(session: Session, name: str) -> StoredSequence:
    stored = session.scalar(select(StoredSequence).where(StoredSequence.name == name).with_for_update())
    if stored is None:
        raise RefusedError(
            f"the sequence {name} was never applied", remedy=f"apply it with: mailer sequences apply {name}"
        )
    return stored


def _match(session: Session, stored: StoredSequence, steps: Many[WrittenStep]) -> _Matched:
    """Match stored steps with files: by name, and the rest by content.

    A file that comes back is the step that was removed, so those who had it do not get it again.
    """
    ours = select(SequenceStep).where(SequenceStep.sequence_id == stored.id)
    # Those that are not removed come last, and take the name.
    every = session.scalars(ours.order_by(SequenceStep.removed_at.is_(None), SequenceStep.id)).all()
    found, left = _Matched(), {step.name: step for step in every}
    for step in steps:
        if step.name in left:
            found.kept[step.name] = left.pop(step.name)
    sources = {_source(session, step): step for step in left.values()}
    for step in steps:
        renamed = sources.pop(step.edition.made_of["source"], None)
        if step.name not in found.kept and renamed is not None:
            found.kept[step.name] = left.pop(renamed.name)
    found.removed = [step for step in left.values() if step.removed_at is None]
    return found


def _source(session: Session, step: SequenceStep) -> str:
    digest = issues.get(session, step.issue_id).edition_digest
    return issues.edition(session, digest).made_of["source"]


def _change(session: Session, before: SequenceStep | None, step: WrittenStep, place: int) -> Change:
    if before is None:
        return Change(step.name, "new", f"{_when(step)}; those who are past its place do not get it")
    told = []
    if before.removed_at is not None:
        told.append("it comes back")
    if before.name != step.name:
        told.append(f"renamed from {before.name}")
    if issues.get(session, before.issue_id).edition_digest != step.edition.digest:
        told.append("its content changes")
    if (before.after_seconds, before.minute, before.days, before.segment) != _timing(step):
        told.append(f"its time becomes: {_when(step)}")
    if before.position != place:
        told.append(f"it moves from place {before.position + 1} to {place + 1}")
    if not told:
        return Change(step.name, "unchanged", _when(step))
    have = session.scalar(select(func.count()).where(Delivery.issue_id == before.issue_id)) or 0
    told.append(
        f"{have:,} have it and do not get it again, {_count_waiting(session, before.id):,} wait for it"
    )
    return Change(step.name, "changed", "; ".join(told))


def _count_waiting(session: Session, step_id: int) -> int:
    return session.scalar(select(func.count()).where(_M.next_step_id == step_id)) or 0


def _when(step: WrittenStep) -> str:
    from mailer.rendering.source.front_values import DAYS

    timing = step.timing
    told = [f"{_spoken(timing.after)} after the previous step"]
    if timing.send_at is not None:
        told.append(f"at {timing.send_at:%H:%M}")
    if timing.days:
        told.append(f"on {', '.join(DAYS[day] for day in timing.days)}")
    if timing.only:
        told.append(f"only to {timing.only}")
    return " ".join(told)


def _spoken(wait: timedelta) -> str:
    if wait.days and not wait.seconds:
        return f"{wait.days} {'day' if wait.days == 1 else 'days'}"
    return str(wait) if wait else "immediately"


def _timing(step: WrittenStep) -> tuple[int, int | None, str, str]:
    timing = step.timing
    minute = None if timing.send_at is None else timing.send_at.hour * 60 + timing.send_at.minute
    return int(timing.after.total_seconds()), minute, "".join(map(str, timing.days)), timing.only


def _store(
    session: Session,
    stored: StoredSequence,
    known: SequenceStep | None,
    step: WrittenStep,
    place: int,
    *,
    at: datetime,
) -> SequenceStep:
    """Write a step and its issue, and return it."""
    digest = issues.freeze(session, step.edition, at=at)
    if known is None:
        issue = StoredIssue(
            slug=_free_slug(session, stored, step.name),
            title=step.edition.title,
            source_path=str(step.path),
            edition_digest=digest,
            state=IssueState.FINISHED.value,
            segment=f"sequence {stored.name}",
            dated_at=at,
            created_at=at,
            finished_at=at,
            sequence_id=stored.id,
        )
        session.add(issue)
        session.flush()
        known = SequenceStep(sequence_id=stored.id, issue_id=issue.id, name=step.name, position=place)
        session.add(known)
    else:
        issue = session.get_one(StoredIssue, known.issue_id)
        if issue.edition_digest != digest:
            number = issues.edition_number(session, issue.id)
            replaced = ReplacedEdition(
                issue_id=issue.id, number=number, digest=issue.edition_digest, replaced_at=at
            )
            session.add(replaced)
            issue.edition_digest, issue.title = digest, step.edition.title
        issue.source_path = str(step.path)
    known.name, known.position, known.removed_at = step.name, place, None
    known.after_seconds, known.minute, known.days, known.segment = _timing(step)
    return known


def _free_slug(session: Session, stored: StoredSequence, step: str) -> str:
    """Return the slug of a new step; raise `RefusedError` if another issue has it.

    A step that was renamed keeps its slug, so a new one of the same name gets a number.
    """
    slug = slug_of(stored.name, step)
    free, number = slug, 1
    while (known := issues.find(session, free)) is not None:
        if known.sequence_id != stored.id:
            raise RefusedError(f"there is an issue {free} already", remedy=f"rename the file of {step}")
        number += 1
        free = f"{slug}-{number}"
    return free


def _move(
    session: Session, sequence_id: int, before: Many[SequenceStep], after: Many[SequenceStep], *, at: datetime
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
    session.execute(update(_M).where(*inside).values(values))
    ended = update(_M).where(_M.sequence_id == sequence_id, _M.next_step_id.is_(None), _M.ended_at.is_(None))
    session.execute(ended.values(ended_at=at, due_at=None, why="finished"))


def next_after(
    had: Many[SequenceStep], before: Many[SequenceStep], after: Many[SequenceStep]
) -> SequenceStep | None:
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


def _set_mark(session: Session, stored: StoredSequence, *, at: datetime) -> None:
    """Let only what happens from now on trigger the sequence."""
    kind, _, value = stored.trigger.partition(":")
    match kind:
        case "confirmed":
            stored.mark = stored.floor = session.scalar(select(func.max(Consent.id))) or 0
        case "date":
            stored.mark = (at - EPOCH) // HOUR - 1
        case "tag":
            _keep_out(session, stored, value, at=at)
        case _:
            stored.mark = 0


def _keep_out(session: Session, stored: StoredSequence, tag: str, *, at: datetime) -> None:
    """Keep those who have a tag already out of a sequence that it triggers."""
    inside = select(_M.subscriber_id).where(_M.sequence_id == stored.id)
    had = select(
        literal(stored.id),
        SubscriberTag.subscriber_id,
        microseconds(at),
        microseconds(at),
        microseconds(at),
        literal("before"),
    ).where(SubscriberTag.tag == tag, SubscriberTag.subscriber_id.not_in(inside))
    columns = ["sequence_id", "subscriber_id", "entered_at", "since_at", "ended_at", "why"]
    session.execute(insert(SequenceMember).from_select(columns, had))
