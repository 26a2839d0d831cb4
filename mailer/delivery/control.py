"""Change the state of a queued issue: retry, pause, resume, cancel, withdraw, publish, finish.

Operators call these functions through commands and the console; runs call them too, for example to pause an
issue that a provider refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from mailer.database import running_totals
from mailer.database.tables import (
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
from mailer.errors import RefusedError
from mailer.printable import counted

_ANNOUNCED: Final = {
    IssueState.SENDING: "resumed",
    IssueState.PAUSED: "paused",
    IssueState.CANCELLED: "cancelled",
    IssueState.FINISHED: "finished",
}
"""The name of the webhook event for the change to a state."""
REFUSALS_ACCEPTED: Final = "refusals_accepted"


def retry(connection: Connection, issue_id: int, state: DeliveryState, *, at: datetime) -> int:
    """Queue the deliveries in `state` (failed, deferred or uncertain) again; return how many.

    This reopens an issue that was finished or cancelled. A paused one stays paused.
    """
    if state not in (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN):
        raise ValueError(f"{state} deliveries are not retried")
    return _queue_again(connection, issue_id, state, Delivery.c.state == state.value, at=at)


def uncomposed() -> ColumnElement[bool]:
    """Return the condition that selects deliveries that failed because no message could be composed.

    No server was involved, so there is neither a code nor a class, only the reason.
    """
    return and_(
        Delivery.c.state == DeliveryState.FAILED.value,
        Delivery.c.code.is_(None),
        Delivery.c.bounce_class.is_(None),
        Delivery.c.reply.is_not(None),
    )


def retry_uncomposed(connection: Connection, issue_id: int, *, at: datetime) -> int:
    """Like `retry`, for the deliveries whose message could not be composed; return how many."""
    return _queue_again(connection, issue_id, DeliveryState.FAILED, uncomposed(), at=at)


def _queue_again(
    connection: Connection, issue_id: int, before: DeliveryState, which: ColumnElement[bool], *, at: datetime
) -> int:
    """Queue the deliveries that fulfil a condition again; all of them are in the state `before`."""
    done = connection.execute(
        update(Delivery)
        .where(Delivery.c.issue_id == issue_id, which)
        .values(state=DeliveryState.QUEUED.value, due_at=None, first_at=None, changed_at=at)
    ).rowcount
    running_totals.move(connection, issue_id, done, before, DeliveryState.QUEUED)
    if done:
        ended = (IssueState.FINISHED, IssueState.CANCELLED)
        _set_state(connection, issue_id, IssueState.SENDING, only_from=ended)
    return done


def pause(connection: Connection, issue_id: int, reason: str) -> bool:
    """Stop an issue from being sent until it is resumed; return whether that changed anything."""
    return _set_state(connection, issue_id, IssueState.PAUSED, reason, only_from=(IssueState.SENDING,))


def resume(connection: Connection, issue_id: int) -> bool:
    """Allow a paused issue to be sent again; return whether that changed anything.

    A canary that was stopped counts as passed from then on, because the operator has decided.
    """
    connection.execute(
        update(StoredIssue)
        .where(StoredIssue.c.id == issue_id, StoredIssue.c.canary == CanaryState.STOPPED.value)
        .values(canary=CanaryState.PASSED.value)
    )
    return _set_state(connection, issue_id, IssueState.SENDING, only_from=(IssueState.PAUSED,))


def accept_refusals(connection: Connection, issue_id: int, *, at: datetime) -> None:
    """Record that an issue's refusals are about the recipients, however alike they are."""
    connection.execute(insert(Event).values(at=at, kind=REFUSALS_ACCEPTED, issue_id=issue_id, details={}))


def refusals_accepted(connection: Connection, issue_id: int) -> bool:
    """Return whether the operator has accepted the refusals of an issue."""
    wanted = select(Event.c.id).where(Event.c.issue_id == issue_id, Event.c.kind == REFUSALS_ACCEPTED)
    return connection.scalar(wanted.limit(1)) is not None


def cancel(connection: Connection, issue_id: int, *, at: datetime) -> int:
    """Skip the queued and deferred deliveries of an issue for good; return how many.

    A run settles the deliveries that it is sending. Raises `RefusedError` for a finished issue.
    """
    if issues.get(connection, issue_id).state is IssueState.FINISHED:
        raise RefusedError("the issue is finished: there is nothing left to cancel")
    _set_state(connection, issue_id, IssueState.CANCELLED, "cancelled by the operator")
    _remove_schedule(connection, issue_id)
    return _skip_waiting(connection, issue_id, at)


def withdraw(connection: Connection, issue_id: int) -> int:
    """Remove an issue from the queue before anything was sent; return how many deliveries it had.

    Nothing of it is kept, so it can be corrected and queued again under the same name. The caller holds
    `mailer.delivery.lock.exclusive`. Raises `RefusedError` if any message was, or may have been, sent.
    """
    gone = [DeliveryState.SENT.value, DeliveryState.SENDING.value, DeliveryState.UNCERTAIN.value]
    ours = Delivery.c.issue_id == issue_id
    issue = issues.get(connection, issue_id)
    if issue.sequence_id is not None:
        raise RefusedError(
            "it is a step of a sequence", remedy="remove its file, then: mailer sequences apply NAME"
        )
    number = connection.scalar(select(func.count()).where(ours, Delivery.c.state.in_(gone))) or 0
    if number:
        raise RefusedError(
            f"it cannot be withdrawn: {counted(number, 'message')} went out, or may have",
            remedy="correct it for the others with: mailer amend ISSUE, or stop it with: mailer cancel ISSUE",
        )
    _remove_schedule(connection, issue_id)
    replaced = select(ReplacedEdition.c.digest).where(ReplacedEdition.c.issue_id == issue_id)
    tested = select(StoredArm.c.digest).where(StoredArm.c.issue_id == issue_id)
    digests = {issue.edition_digest, *connection.scalars(replaced), *connection.scalars(tested)}
    dependents = (CanaryMember, IssueCount, ReplacedEdition, Run, RunningTotal, StoredArm, StoredTest)
    for dependent in dependents:
        connection.execute(delete(dependent).where(dependent.c.issue_id == issue_id))
    withdrawn = connection.execute(delete(Delivery).where(ours)).rowcount
    connection.execute(delete(StoredIssue).where(StoredIssue.c.id == issue_id))
    connection.execute(
        delete(StoredEdition).where(
            StoredEdition.c.digest.in_(digests),
            ~exists().where(StoredIssue.c.edition_digest == StoredEdition.c.digest),
            ~exists().where(ReplacedEdition.c.digest == StoredEdition.c.digest),
            ~exists().where(StoredArm.c.digest == StoredEdition.c.digest),
        )
    )
    return withdrawn


def skip_deferred(
    connection: Connection, issue_id: int, condition: ColumnElement[bool], why: str, *, at: datetime
) -> int:
    """Skip the deliveries that wait for a retry and whose subscriber matches a condition; return how many."""
    theirs = exists().where(Subscriber.c.id == Delivery.c.subscriber_id, condition)
    skipped = update(Delivery).where(
        Delivery.c.issue_id == issue_id, text(WAITS), Delivery.c.state == DeliveryState.DEFERRED.value, theirs
    )
    values = {"state": DeliveryState.SKIPPED.value, "due_at": None, "changed_at": at, "reply": why}
    number = connection.execute(skipped.values(values)).rowcount
    running_totals.move(connection, issue_id, number, DeliveryState.DEFERRED, DeliveryState.SKIPPED)
    return number


def _skip_waiting(connection: Connection, issue_id: int, at: datetime) -> int:
    total = 0
    for before in (DeliveryState.QUEUED, DeliveryState.DEFERRED):
        number = connection.execute(
            update(Delivery)
            .where(Delivery.c.issue_id == issue_id, Delivery.c.state == before.value)
            .values(state=DeliveryState.SKIPPED.value, due_at=None, changed_at=at, reply="cancelled")
        ).rowcount
        running_totals.move(connection, issue_id, number, before, DeliveryState.SKIPPED)
        total += number
    return total


def finish(connection: Connection, issue_id: int, *, at: datetime) -> bool:
    """Mark an issue finished if none of its deliveries is open; return whether none is.

    If the issue is cancelled, this also skips the deliveries that a run has released or deferred since.
    """
    # The lock makes a simultaneous `cancel` wait, so that it sees what this transaction has released.
    # Other runs that end have locked its key, as a foreign key does; that is compatible with `key_share`.
    locked = select(StoredIssue.c.state).where(StoredIssue.c.id == issue_id).with_for_update(key_share=True)
    state = connection.scalar(locked)
    if state == IssueState.CANCELLED.value:
        _skip_waiting(connection, issue_id, at)
    if not is_settled(connection, issue_id):
        return False
    finished = connection.execute(
        update(StoredIssue)
        .where(StoredIssue.c.id == issue_id, StoredIssue.c.state == IssueState.SENDING.value)
        .values(state=IssueState.FINISHED.value, finished_at=at)
    )
    # A step finishes whenever nobody is due.
    if finished.rowcount and issues.get(connection, issue_id).sequence_id is None:
        announce_issue(connection, issue_id, _ANNOUNCED[IssueState.FINISHED], at=at)
    return True


def is_settled(connection: Connection, issue_id: int) -> bool:
    """Return whether no delivery of an issue is open, and none will be queued for another zone."""
    # Looked up before the deliveries: the transaction that removes the schedule queues the last of them.
    if _waits_for_other_zones(connection, issue_id):
        return False
    deliveries = select(Delivery.c.issue_id).where(Delivery.c.issue_id == issue_id)
    begun = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value]
    # Waiting deliveries have an index, so they are checked first. One statement for both, so that no delivery
    # changes its state between two checks.
    waits, sends = deliveries.where(text(WAITS)), deliveries.where(Delivery.c.state.in_(begun))
    return not connection.scalar(select(case((waits.exists(), True), else_=sends.exists())))


def _remove_schedule(connection: Connection, issue_id: int) -> None:
    slug = select(StoredIssue.c.slug).where(StoredIssue.c.id == issue_id).scalar_subquery()
    connection.execute(delete(ScheduledIssue).where(ScheduledIssue.c.slug == slug))


def _waits_for_other_zones(connection: Connection, issue_id: int) -> bool:
    """Return whether an issue that is sent by local time will be queued for more subscribers."""
    slug = select(StoredIssue.c.slug).where(StoredIssue.c.id == issue_id).scalar_subquery()
    return connection.scalar(select(ScheduledIssue.c.id).where(ScheduledIssue.c.slug == slug)) is not None


def publish(connection: Connection, issue_id: int, *, at: datetime) -> None:
    """Publish an issue in the archive, unless its canary has not passed or the issue is stopped.

    Call this once a message of the issue has been sent. Pausing an issue later does not unpublish it.
    """
    ready = (
        StoredIssue.c.published_at.is_(None),
        StoredIssue.c.state.in_([IssueState.SENDING.value, IssueState.FINISHED.value]),
        or_(StoredIssue.c.canary.is_(None), StoredIssue.c.canary == CanaryState.PASSED.value),
    )
    connection.execute(
        update(StoredIssue).where(StoredIssue.c.id == issue_id, *ready).values(published_at=at)
    )


def _set_state(
    connection: Connection,
    issue_id: int,
    state: IssueState,
    reason: str = "",
    *,
    only_from: Sequence[IssueState] | None = None,
) -> bool:
    statement = update(StoredIssue).where(StoredIssue.c.id == issue_id, StoredIssue.c.state != state.value)
    if only_from is not None:
        statement = statement.where(StoredIssue.c.state.in_([known.value for known in only_from]))
    changed = connection.execute(statement.values(state=state.value, reason=reason, finished_at=None))
    if not changed.rowcount:
        return False
    announce_issue(connection, issue_id, _ANNOUNCED[state], at=now())
    return True
