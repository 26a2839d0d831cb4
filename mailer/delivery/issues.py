"""The issues in the queue: frozen once, then sent, paused, resumed, cancelled or finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

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
    ScheduledIssue,
    StoredArm,
    StoredEdition,
    StoredIssue,
    StoredTest,
    Subscriber,
    SubscriberStatus,
    Suppression,
)
from mailer.delivery import arms, resending
from mailer.delivery.announcements import announce_issue
from mailer.delivery.clock import now
from mailer.delivery.issue_names import is_named
from mailer.errors import MailerError, RefusedError, SourceError
from mailer.rendering.edition import Edition

_ANALYSE_FROM: Final = 1_000
"""How large an audience must be for new statistics."""
_ANNOUNCED: Final = {
    IssueState.SENDING: "resumed",
    IssueState.PAUSED: "paused",
    IssueState.CANCELLED: "cancelled",
    IssueState.FINISHED: "finished",
}
"""How webhooks call the change to a state."""
REFUSALS_ACCEPTED: Final = "refusals_accepted"
# Built once, since it runs for every window.
_PROGRESS: Final = select(StoredIssue.state, StoredIssue.canary, StoredIssue.published_at).where(
    StoredIssue.id == bindparam("issue_id")
)


@dataclass(frozen=True, slots=True)
class QueuedIssue:
    """An issue that was queued."""

    id: int
    slug: str
    title: str
    state: IssueState
    reason: str
    edition_digest: str
    segment: str
    dated_at: datetime
    created_at: datetime
    finished_at: datetime | None
    published_at: datetime | None
    canary: CanaryState | None = None
    canary_until: datetime | None = None
    resend_of: int | None = None
    """The id of the issue that it repeats."""
    sequence_id: int | None = None
    """The sequence that it is a step of."""

    @property
    def public(self) -> bool:
        """Whether the issue gets a page in the archive: one that goes to a segment does not."""
        return not self.segment

    @property
    def members_only(self) -> bool:
        """Whether only the members of its canary are mailed so far."""
        return self.canary not in (None, CanaryState.PASSED)


class Progress(NamedTuple):
    """What a run needs to know about its issue in each transaction."""

    state: IssueState
    members_only: bool
    """Whether only the members of its canary are mailed so far."""
    published: bool


def mailable(at: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """Return the condition under which a subscriber may be mailed an issue at that instant."""
    return and_(
        Subscriber.status == SubscriberStatus.ACTIVE.value,
        or_(Subscriber.paused_until.is_(None), Subscriber.paused_until <= at),
        ~exists().where(Suppression.address_key == Subscriber.address_key),
    )


def audience(condition: ColumnElement[bool] | None, *, at: datetime) -> ColumnElement[bool]:
    """Return the condition that selects an issue's audience: the mailable subscribers of a segment."""
    return mailable(at) & (true() if condition is None else condition)


def find(session: Session, slug: str) -> QueuedIssue | None:
    """Return the queued issue of that slug, or None."""
    stored = session.scalar(select(StoredIssue).where(StoredIssue.slug == slug))
    return None if stored is None else _queued(stored)


def named(session: Session, name: str) -> QueuedIssue:
    """Return the queued issue with this slug, or the only one whose slug begins with this number.

    Raises `SourceError` listing the latest issues, or those that the number fits.
    """
    every = issues(session)
    found = [known for known in every if is_named(known.slug, name)]
    exact = [known for known in found if known.slug == name]
    if exact or len(found) == 1:
        return (exact or found)[0]
    if found:
        names = ", ".join(known.slug for known in found)
        raise SourceError(f"several issues begin with {name}: {names}", remedy="name one of them")
    there = ", ".join(known.slug for known in every[:5])
    remedy = f"these were: {there}" if there else "none was yet; to list drafts: mailer status"
    raise SourceError(f"no issue '{name}' was ever queued", remedy=remedy)


def get(session: Session, issue_id: int) -> QueuedIssue:
    """Return a queued issue by its id."""
    return _queued(session.get_one(StoredIssue, issue_id))


def progress(session: Session, issue_id: int) -> Progress:
    """Return how far a queued issue has come. Much faster than `get`."""
    state, canary, published_at = session.connection().execute(_PROGRESS, {"issue_id": issue_id}).one()
    return Progress(
        IssueState(state), canary not in (None, CanaryState.PASSED.value), published_at is not None
    )


def issues(session: Session) -> list[QueuedIssue]:
    """Return every issue that was queued, newest first."""
    return [
        _queued(stored) for stored in session.scalars(select(StoredIssue).order_by(StoredIssue.id.desc()))
    ]


def edition(session: Session, digest: str) -> Edition:
    """Return the frozen edition; raise `MailerError` if its content has changed since."""
    found = Edition.from_json(session.get_one(StoredEdition, digest).content)
    if found.digest != digest:
        raise MailerError(
            f"the stored edition {digest[:12]} was changed after it was frozen", remedy="restore a backup"
        )
    return found


def enqueue(
    session: Session,
    frozen: Edition,
    *,
    source_path: str,
    at: datetime,
    segment: str = "",
    condition: ColumnElement[bool] | None = None,
    keep_schedule: bool = False,
) -> tuple[QueuedIssue, bool]:
    """Freeze an edition and write one delivery for each subscriber in its audience; return whether it is new.

    `condition` narrows the audience; `segment` is its text, as the operator wrote it. An issue that is
    already queued keeps its edition and its audience. A schedule of the issue is removed, unless
    `keep_schedule`. An edition with several arms begins an A/B test; a resend goes only to readers who did
    not react, and raises errors as `narrowed` does.
    """
    if known := find(session, frozen.slug):
        return known, False
    resend_of = named(session, frozen.resend.of).id if frozen.resend else None
    if resend_of is not None:
        # Another resend of the same issue waits, so that neither misses the readers of the other.
        session.execute(select(StoredIssue.id).where(StoredIssue.id == resend_of).with_for_update())
    segment, condition = narrowed(session, frozen, segment, condition)
    if not keep_schedule:
        session.execute(delete(ScheduledIssue).where(ScheduledIssue.slug == frozen.slug))
    stored = StoredIssue(
        slug=frozen.slug,
        title=frozen.title,
        source_path=source_path,
        edition_digest=freeze(session, frozen, at=at),
        state=IssueState.SENDING.value,
        segment=segment,
        dated_at=at,
        created_at=at,
        resend_of=resend_of,
    )
    session.add(stored)
    session.flush()
    wanted = (
        select(literal(stored.id), Subscriber.id, literal(DeliveryState.QUEUED.value))
        .where(audience(condition, at=at))
        .order_by(Subscriber.id)
    )
    queued = session.execute(
        insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted),
        # Otherwise SQLAlchemy does not keep the number of inserted rows on PostgreSQL.
        execution_options={"preserve_rowcount": True},
    )
    stored.audience = count_of(queued)
    if stored.audience >= _ANALYSE_FROM and session.get_bind().dialect.name == "postgresql":
        # Without statistics of the new rows, PostgreSQL finds a slow plan for the first claims.
        session.execute(text("ANALYZE deliveries"))
    session.flush()
    if frozen.test is not None:
        digests = [stored.edition_digest, *(freeze(session, arm, at=at) for arm in frozen.arms)]
        arms.begin(session, stored.id, digests, frozen.test, seed=frozen.slug)
        session.refresh(stored)
    announce_issue(session, stored.id, "queued", at=at)
    return _queued(stored), True


def narrowed(
    session: Session, edition: Edition, segment: str, condition: ColumnElement[bool] | None
) -> tuple[str, ColumnElement[bool] | None]:
    """Return the segment of an issue as text, and its condition; those of a resend are narrower.

    Raises `SourceError` if the issue to resend was never queued, and `RefusedError` if it cannot be resent,
    or if it is a step of a sequence.
    """
    if edition.step:
        raise RefusedError(
            f"{edition.slug} is a step of a sequence, because it has 'after'",
            remedy="put the sequence into effect with: mailer sequences apply NAME",
        )
    if edition.resend is None:
        return segment, condition
    original = named(session, edition.resend.of)
    return resending.narrowed(session, edition.resend, original.id, segment, condition)


def freeze(session: Session, built: Edition, *, at: datetime) -> str:
    """Store an edition unless it is stored already; return its digest."""
    digest = built.digest
    if session.get(StoredEdition, digest) is None:
        session.add(StoredEdition(digest=digest, content=built.to_json(), created_at=at))
        session.flush()
    return digest


def edition_number(session: Session, issue_id: int) -> int:
    """Return the number of an issue's newest edition: 1, and one more for each amendment."""
    replaced = select(func.count()).where(ReplacedEdition.issue_id == issue_id)
    return 1 + (session.scalar(replaced) or 0)


def count_audience(session: Session, condition: ColumnElement[bool] | None, *, at: datetime) -> int:
    """Return how many subscribers an issue would go to now."""
    wanted = select(func.count()).select_from(Subscriber)
    return session.scalar(wanted.where(audience(condition, at=at))) or 0


def retry(session: Session, issue_id: int, state: DeliveryState, *, at: datetime) -> int:
    """Queue the deliveries in `state` (failed, deferred or uncertain) again; return how many.

    This reopens an issue that was finished or cancelled. A paused one stays paused.
    """
    if state not in (DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.UNCERTAIN):
        raise ValueError(f"{state} deliveries are not retried")
    return _queue_again(session, issue_id, Delivery.state == state.value, at=at)


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
    """Queue the deliveries that could not be composed again, as `retry` does; return how many."""
    return _queue_again(session, issue_id, uncomposed(), at=at)


def _queue_again(session: Session, issue_id: int, which: ColumnElement[bool], *, at: datetime) -> int:
    done = count_of(
        session.execute(
            update(Delivery)
            .where(Delivery.issue_id == issue_id, which)
            .values(state=DeliveryState.QUEUED.value, due_at=None, first_at=None, changed_at=at)
        )
    )
    if done:
        ended = (IssueState.FINISHED, IssueState.CANCELLED)
        _set_state(session, issue_id, IssueState.SENDING, only_from=ended)
    return done


def pause(session: Session, issue_id: int, reason: str) -> bool:
    """Stop an issue from being sent until it is resumed; return whether that changed anything."""
    return _set_state(session, issue_id, IssueState.PAUSED, reason, only_from=(IssueState.SENDING,))


def resume(session: Session, issue_id: int) -> bool:
    """Let a paused issue be sent again; return whether that changed anything.

    A canary that was stopped counts as passed from then on, because the operator has decided.
    """
    session.execute(
        update(StoredIssue)
        .where(StoredIssue.id == issue_id, StoredIssue.canary == CanaryState.STOPPED.value)
        .values(canary=CanaryState.PASSED.value)
    )
    return _set_state(session, issue_id, IssueState.SENDING, only_from=(IssueState.PAUSED,))


def accept_refusals(session: Session, issue_id: int, *, at: datetime) -> None:
    """Note that the refusals of an issue are the recipients' own, however alike they are."""
    session.add(Event(at=at, kind=REFUSALS_ACCEPTED, issue_id=issue_id, details={}))


def refusals_accepted(session: Session, issue_id: int) -> bool:
    """Return whether the operator has accepted the refusals of an issue."""
    wanted = select(Event.id).where(Event.issue_id == issue_id, Event.kind == REFUSALS_ACCEPTED)
    return session.scalar(wanted.limit(1)) is not None


def queued_at(session: Session, issue_id: int) -> datetime | None:
    """Return when an issue was queued; None for a step of a sequence, which people reach at any time."""
    found = select(StoredIssue.created_at).where(
        StoredIssue.id == issue_id, StoredIssue.sequence_id.is_(None)
    )
    return session.scalar(found)


def cancel(session: Session, issue_id: int, *, at: datetime) -> int:
    """Skip the queued and deferred deliveries of an issue for good; return how many.

    A run settles the deliveries that it is sending. Raises `RefusedError` for a finished issue.
    """
    if get(session, issue_id).state is IssueState.FINISHED:
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
    if get(session, issue_id).sequence_id is not None:
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
    for dependent in (CanaryMember, IssueCount, ReplacedEdition, Run, StoredArm, StoredTest):
        session.execute(delete(dependent).where(dependent.issue_id == issue_id))
    withdrawn = count_of(session.execute(delete(Delivery).where(ours)))
    session.delete(stored)
    session.flush()
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
    return count_of(session.execute(skipped.values(values)))


def _skip_waiting(session: Session, issue_id: int, at: datetime) -> int:
    return count_of(
        session.execute(
            update(Delivery)
            .where(
                Delivery.issue_id == issue_id,
                Delivery.state.in_([DeliveryState.QUEUED.value, DeliveryState.DEFERRED.value]),
            )
            .values(state=DeliveryState.SKIPPED.value, due_at=None, changed_at=at, reply="cancelled")
        )
    )


def finish(session: Session, issue_id: int, *, at: datetime) -> bool:
    """Mark an issue finished if none of its deliveries is open; return whether none is.

    Of a cancelled issue, this skips the deliveries that a run has released or deferred since.
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
    if count_of(finished) and get(session, issue_id).sequence_id is None:
        announce_issue(session, issue_id, _ANNOUNCED[IssueState.FINISHED], at=at)
    return True


def is_settled(session: Session, issue_id: int) -> bool:
    """Return whether no delivery of an issue is open, and none will be queued for another zone."""
    # Looked up before the deliveries: the transaction that removes the schedule queues the last of them.
    if _waits_for_other_zones(session, issue_id):
        return False
    deliveries = select(Delivery.issue_id).where(Delivery.issue_id == issue_id)
    begun = [DeliveryState.QUEUED.value, DeliveryState.SENDING.value]
    # Those that wait have an index, so they come first. One statement, since deliveries move between the two.
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

    Call it once a message of the issue was sent. Pausing an issue later does not unpublish it.
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


def _queued(stored: StoredIssue) -> QueuedIssue:
    return QueuedIssue(
        id=stored.id,
        slug=stored.slug,
        title=stored.title,
        state=IssueState(stored.state),
        reason=stored.reason,
        edition_digest=stored.edition_digest,
        segment=stored.segment,
        dated_at=stored.dated_at,
        created_at=stored.created_at,
        finished_at=stored.finished_at,
        published_at=stored.published_at,
        canary=CanaryState(stored.canary) if stored.canary else None,
        canary_until=stored.canary_until,
        resend_of=stored.resend_of,
        sequence_id=stored.sequence_id,
    )


def count_of(result: object) -> int:
    """Return how many rows a statement changed."""
    assert isinstance(result, CursorResult)
    return result.rowcount
