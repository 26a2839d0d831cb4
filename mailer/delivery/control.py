"""Change the state of a queued issue: retry, pause, resume, cancel, withdraw, publish, finish.

Operators call these functions through commands and the console; runs call them too, for example to pause an
issue that a provider refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, and_, case, delete, exists, func, or_, select, text, update
from sqlalchemy.orm import Session

from mailer.database import running_totals
from mailer.database.models import (
    WAITS,
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    Event,
    IssueCount,
    IssueState,
    ReplacedEdition,
    Run,
    RunningTotal,
    ScheduledIssue,
    StoredArm,
    StoredEdition,
    StoredIssue,
    StoredTest,
    Subscriber,
)
from mailer.delivery import issues
from mailer.delivery.announcements import announce_issue
from mailer.delivery.clock import now
from mailer.delivery.issues import count_of
from mailer.errors import RefusedError

_ANNOUNCED: Final = {
    IssueState.SENDING: "resumed",
    IssueState.PAUSED: "paused",
    IssueState.CANCELLED: "cancelled",
    IssueState.FINISHED: "finished",
}
"""The name of the webhook event for the change to a state."""
REFUSALS_ACCEPTED: Final = "refusals_accepted"


def retry(session: Session, issue_id: int, state: DeliveryState, *, at: datetime) -> int:
    """Queue the deliveries in `state` (failed, deferred or uncertain) again; return how many.

    This reopens an issue that was finished or cancelled. A paused one stays paused.
    """
    if state not in (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN):
        raise ValueError(f"{state} deliveries are not retried")
    return _queue_again(session, issue_id, state, Delivery.state == state.value, at=at)


def uncomposed() -> ColumnElement[bool]:
    """Return the condition that selects deliveries that failed because no message could be composed.

    No server was involved, so there is neither a code nor a class, only the reason.
    """
    return and_(
        Delivery.state == DeliveryState.FAILED.value,
        Delivery.code.is_(None),
        Delivery.bounce_class.is_(None),
        Delivery.reply.is_not(None),
    )


def retry_uncomposed(session: Session, issue_id: int, *, at: datetime) -> int:
    """Like `retry`, for the deliveries whose message could not be composed; return how many."""
    return _queue_again(session, issue_id, DeliveryState.FAILED, uncomposed(), at=at)


def _queue_again(
    session: Session, issue_id: int, before: DeliveryState, which: ColumnElement[bool], *, at: datetime
) -> int:
    """Queue the deliveries that fulfil a condition again; all of them are in the state `before`."""
    done = count_of(
        session.execute(
            update(Delivery)
            .where(Delivery.issue_id == issue_id, which)
            .values(state=DeliveryState.QUEUED.value, due_at=None, first_at=None, changed_at=at)
        )
    )
    running_totals.move(session, issue_id, done, before, DeliveryState.QUEUED)
    if done:
        ended = (IssueState.FINISHED, IssueState.CANCELLED)
        _set_state(session, issue_id, IssueState.SENDING, only_from=ended)
    return done


def pause(session: Session, issue_id: int, reason: str) -> bool:
    """Stop an issue from being sent until it is resumed; return whether that changed anything."""
    return _set_state(session, issue_id, IssueState.PAUSED, reason, only_from=(IssueState.SENDING,))


def resume(session: Session, issue_id: int) -> bool:
    """Allow a paused issue to be sent again; return whether that changed anything.

    A canary that was stopped counts as passed from then on, because the operator has decided.
    """
    session.execute(
        update(StoredIssue)
        .where(StoredIssue.id == issue_id, StoredIssue.canary == CanaryState.STOPPED.value)
        .values(canary=CanaryState.PASSED.value)
    )
    return _set_state(session, issue_id, IssueState.SENDING, only_from=(IssueState.PAUSED,))


def accept_refusals(session: Session, issue_id: int, *, at: datetime) -> None:
    """Record that an issue's refusals are about the recipients, however alike they are."""
    session.add(Event(at=at, kind=REFUSALS_ACCEPTED, issue_id=issue_id, details={}))


def refusals_accepted(session: Session, issue_id: int) -> bool:
    """Return whether the operator has accepted the refusals of an issue."""
    wanted = select(Event.id).where(Event.issue_id == issue_id, Event.kind == REFUSALS_ACCEPTED)
    return session.scalar(wanted.limit(1)) is not None


def cancel(session: Session, issue_id: int, *, at: datetime) -> int:
    """Skip the queued and deferred deliveries of an issue for good; return how many.

    A run settles the deliveries that it is sending. Raises `RefusedError` for a finished issue.
    """
    if issues.get(session, issue_id).state is IssueState.FINISHED:
        raise RefusedError("the issue is finished: there is nothing left to cancel")
    _set_state(session, issue_id, IssueState.CANCELLED, "cancelled by the operator")
    _remove_schedule(session, issue_id)
    return _skip_waiting(session, issue_id, at)


def withdraw(session: Session, issue_id: int) -> int:
    """Remove an issue from the queue before anything was sent; return how many deliveries it had.

    Nothing of it is kept, so it can be corrected and queued again under the same name. The caller holds
    `mailer.delivery.lock.exclusive`. Raises `RefusedError` if any message was, or may have been, sent.
    """
    gone = [DeliveryState.SENT.value, DeliveryState.SENDING.value, DeliveryState.UNCERTAIN.value]
    ours = Delivery.issue_id == issue_id
    if issues.get(session, issue_id).sequence_id is not None:
        raise RefusedError(
            "it is a step of a sequence", remedy="remove its file, then: mailer sequences apply NAME"
        )
    number = session.scalar(select(func.count()).where(ours, Delivery.state.in_(gone))) or 0
    if number:
        raise RefusedError(
            f"{number:,} of its messages were sent, or may have been: it cannot be withdrawn",
            remedy="correct it for the others with: mailer amend ISSUE, or stop it with: mailer cancel ISSUE",
        )
    _remove_schedule(session, issue_id)
    stored = session.get_one(StoredIssue, issue_id)
    replaced = select(ReplacedEdition.digest).where(ReplacedEdition.issue_id == issue_id)
    tested = select(StoredArm.digest).where(StoredArm.issue_id == issue_id)
    digests = {stored.edition_digest, *session.scalars(replaced), *session.scalars(tested)}
    dependents = (CanaryMember, IssueCount, ReplacedEdition, Run, RunningTotal, StoredArm, StoredTest)
    for dependent in dependents:
        session.execute(delete(dependent).where(dependent.issue_id == issue_id))
    withdrawn = count_of(session.execute(delete(Delivery).where(ours)))
    session.delete(stored)
    session.execute(
        delete(StoredEdition).where(
            StoredEdition.digest.in_(digests),
            ~exists().where(StoredIssue.edition_digest == StoredEdition.digest),
            ~exists().where(ReplacedEdition.digest == StoredEdition.digest),
            ~exists().where(StoredArm.digest == StoredEdition.digest),
        )
    )
    return withdrawn


def skip_deferred(
    session: Session, issue_id: int, condition: ColumnElement[bool], why: str, *, at: datetime
) -> int:
    """Skip the deliveries that wait for a retry and whose subscriber matches a condition; return how many."""
    theirs = exists().where(Subscriber.id == Delivery.subscriber_id, condition)
    skipped = update(Delivery).where(
        Delivery.issue_id == issue_id, text(WAITS), Delivery.state == DeliveryState.DEFERRED.value, theirs
    )
    values = {"state": DeliveryState.SKIPPED.value, "due_at": None, "changed_at": at, "reply": why}
    number = count_of(session.execute(skipped.values(values)))
    running_totals.move(session, issue_id, number, DeliveryState.DEFERRED, DeliveryState.SKIPPED)
    return number


def _skip_waiting(session: Session, issue_id: int, at: datetime) -> int:
    total = 0
    for before in (DeliveryState.QUEUED, DeliveryState.DEFERRED):
        number = count_of(
            session.execute(
                update(Delivery)
                .where(Delivery.issue_id == issue_id, Delivery.state == before.value)
                .values(state=DeliveryState.SKIPPED.value, due_at=None, changed_at=at, reply="cancelled")
            )
        )
        running_totals.move(session, issue_id, number, before, DeliveryState.SKIPPED)
        total += number
    return total


def finish(session: Session, issue_id: int, *, at: datetime) -> bool:
    """Mark an issue finished if none of its deliveries is open; return whether none is.

    If the issue is cancelled, this also skips the deliveries that a run has released or deferred since.
    """
    # The lock makes a simultaneous `cancel` wait, so that it sees what this transaction has released.
    # Other runs that end have locked its key, as a foreign key does; that is compatible with `key_share`.
    locked = select(StoredIssue.state).where(StoredIssue.id == issue_id).with_for_update(key_share=True)
    state = session.scalar(locked)
    if state == IssueState.CANCELLED.value:
        _skip_waiting(session, issue_id, at)
    if not is_settled(session, issue_id):
        return False
    finished = session.execute(
        update(StoredIssue)
        .where(StoredIssue.id == issue_id, StoredIssue.state == IssueState.SENDING.value)
        .values(state=IssueState.FINISHED.value, finished_at=at)
    )
    # A step finishes whenever nobody is due.
    if count_of(finished) and issues.get(session, issue_id).sequence_id is None:
        announce_issue(session, issue_id, _ANNOUNCED[IssueState.FINISHED], at=at)
    return True


def is_settled(session: Session, issue_id: int) -> bool:
    """Return whether no delivery of an issue is open, and none will be queued for another zone."""
    # Looked up before the deliveries: the transaction that removes the schedule queues the last of them.
    if _waits_for_other_zones(session, issue_id):
        return False
    deliveries = select(Delivery.issue_id).where(Delivery.issue_id == issue_id)
    begun = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value]
    # Waiting deliveries have an index, so they are checked first. One statement for both, so that no delivery
    # changes its state between two checks.
    waits, sends = deliveries.where(text(WAITS)), deliveries.where(Delivery.state.in_(begun))
    return not session.scalar(select(case((waits.exists(), True), else_=sends.exists())))


def _remove_schedule(session: Session, issue_id: int) -> None:
    slug = select(StoredIssue.slug).where(StoredIssue.id == issue_id).scalar_subquery()
    session.execute(
        delete(ScheduledIssue).where(ScheduledIssue.slug == slug),
        execution_options={"synchronize_session": False},
    )


def _waits_for_other_zones(session: Session, issue_id: int) -> bool:
    """Return whether an issue that is sent by local time will be queued for more subscribers."""
    slug = select(StoredIssue.slug).where(StoredIssue.id == issue_id).scalar_subquery()
    return session.execute(select(ScheduledIssue.id).where(ScheduledIssue.slug == slug)).first() is not None


def publish(session: Session, issue_id: int, *, at: datetime) -> None:
    """Publish an issue in the archive, unless its canary has not passed or the issue is stopped.

    Call this once a message of the issue has been sent. Pausing an issue later does not unpublish it.
    """
    ready = (
        StoredIssue.published_at.is_(None),
        StoredIssue.state.in_([IssueState.SENDING.value, IssueState.FINISHED.value]),
        or_(StoredIssue.canary.is_(None), StoredIssue.canary == CanaryState.PASSED.value),
    )
    session.execute(update(StoredIssue).where(StoredIssue.id == issue_id, *ready).values(published_at=at))


def _set_state(
    session: Session,
    issue_id: int,
    state: IssueState,
    reason: str = "",
    *,
    only_from: Sequence[IssueState] | None = None,
) -> bool:
    statement = update(StoredIssue).where(StoredIssue.id == issue_id, StoredIssue.state != state.value)
    if only_from is not None:
        statement = statement.where(StoredIssue.state.in_([known.value for known in only_from]))
    changed = session.execute(statement.values(state=state.value, reason=reason, finished_at=None))
    if not count_of(changed):
        return False
    announce_issue(session, issue_id, _ANNOUNCED[state], at=now())
    return True
