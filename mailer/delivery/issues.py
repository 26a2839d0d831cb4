"""Queue an issue, and look up queued issues; `control` changes their state."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from mailer.database import running_totals
from mailer.database.models import (
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    ReplacedEdition,
    ScheduledIssue,
    StoredEdition,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
    Suppression,
)
from mailer.delivery import arms, resending
from mailer.delivery.announcements import announce_issue
from mailer.delivery.issue_names import is_named
from mailer.errors import MailerError, RefusedError, SourceError
from mailer.rendering.edition import Edition

_ANALYSE_FROM: Final = 1_000
"""How large an audience must be for new statistics."""
# Built once, since it runs for every window.
_PROGRESS: Final = select(StoredIssue.state, StoredIssue.canary, StoredIssue.published_at).where(
    StoredIssue.id == bindparam("issue_id")
)


class QueuedIssue(Struct, frozen=True):
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
    """The facts about its issue that a run checks in each transaction."""

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
    remedy = f"the latest are: {there}" if there else "list the drafts with: mailer status"
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
    _write_deliveries(session, stored, condition, at=at)
    if frozen.test is not None:
        digests = [stored.edition_digest, *(freeze(session, arm, at=at) for arm in frozen.arms)]
        arms.begin(session, stored.id, digests, frozen.test, seed=frozen.slug)
        session.refresh(stored)
    announce_issue(session, stored.id, "queued", at=at)
    return _queued(stored), True


def _write_deliveries(
    session: Session, stored: StoredIssue, condition: ColumnElement[bool] | None, *, at: datetime
) -> None:
    """Write one delivery for each subscriber in the audience of an issue, and their number."""
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
    running_totals.add(session, stored.id, {DeliveryState.QUEUED.value: stored.audience})
    if stored.audience >= _ANALYSE_FROM and session.get_bind().dialect.name == "postgresql":
        # Without statistics of the new rows, PostgreSQL finds a slow plan for the first claims.
        session.execute(text("ANALYZE deliveries"))


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


def queued_at(session: Session, issue_id: int) -> datetime | None:
    """Return when an issue was queued; None for a step of a sequence, which people reach at any time."""
    found = select(StoredIssue.created_at).where(
        StoredIssue.id == issue_id, StoredIssue.sequence_id.is_(None)
    )
    return session.scalar(found)


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
