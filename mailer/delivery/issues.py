"""Queue an issue, and look up queued issues; `control` changes their state."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from msgspec import Struct
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
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
    update,
)

from mailer.database import running_totals
from mailer.database.tables import (
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
    TableRow,
)
from mailer.delivery import arms, resending
from mailer.delivery.announcements import announce_issue
from mailer.delivery.issue_names import is_named
from mailer.errors import MailerError, RefusedError, SourceError
from mailer.rendering.edition import Edition

_ANALYSE_FROM: Final = 1_000
"""How large an audience must be for new statistics."""
# Built once, since it runs for every window.
_PROGRESS: Final = select(StoredIssue.c.state, StoredIssue.c.canary, StoredIssue.c.published_at).where(
    StoredIssue.c.id == bindparam("issue_id")
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
        Subscriber.c.status == SubscriberStatus.ACTIVE.value,
        or_(Subscriber.c.paused_until.is_(None), Subscriber.c.paused_until <= at),
        ~exists().where(Suppression.c.address_key == Subscriber.c.address_key),
    )


def audience(condition: ColumnElement[bool] | None, *, at: datetime) -> ColumnElement[bool]:
    """Return the condition that selects an issue's audience: the mailable subscribers of a segment."""
    return mailable(at) & (true() if condition is None else condition)


def find(connection: Connection, slug: str) -> QueuedIssue | None:
    """Return the queued issue of that slug, or None."""
    stored = connection.execute(select(StoredIssue).where(StoredIssue.c.slug == slug)).one_or_none()
    return None if stored is None else _queued(stored)


def named(connection: Connection, name: str) -> QueuedIssue:
    """Return the queued issue with this slug, or the only one whose slug begins with this number.

    Raises `SourceError` listing the latest issues, or those that the number fits.
    """
    every = issues(connection)
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


def get(connection: Connection, issue_id: int) -> QueuedIssue:
    """Return a queued issue by its id."""
    return _queued(connection.execute(select(StoredIssue).where(StoredIssue.c.id == issue_id)).one())


def progress(connection: Connection, issue_id: int) -> Progress:
    """Return how far a queued issue has come. Much faster than `get`."""
    state, canary, published_at = connection.execute(_PROGRESS, {"issue_id": issue_id}).one()
    return Progress(
        IssueState(state), canary not in (None, CanaryState.PASSED.value), published_at is not None
    )


def issues(connection: Connection) -> list[QueuedIssue]:
    """Return every issue that was queued, newest first."""
    every = connection.execute(select(StoredIssue).order_by(StoredIssue.c.id.desc()))
    return [_queued(stored) for stored in every]


def edition(connection: Connection, digest: str) -> Edition:
    """Return the frozen edition; raise `MailerError` if its content has changed since."""
    stored = select(StoredEdition.c.content).where(StoredEdition.c.digest == digest)
    found = Edition.from_json(connection.execute(stored).scalar_one())
    if found.digest != digest:
        raise MailerError(
            f"the stored edition {digest[:12]} was changed after it was frozen", remedy="restore a backup"
        )
    return found


def enqueue(
    connection: Connection,
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
    if known := find(connection, frozen.slug):
        return known, False
    resend_of = named(connection, frozen.resend.of).id if frozen.resend else None
    if resend_of is not None:
        # Another resend of the same issue waits, so that neither misses the readers of the other.
        connection.execute(select(StoredIssue.c.id).where(StoredIssue.c.id == resend_of).with_for_update())
    segment, condition = narrowed(connection, frozen, segment, condition)
    if not keep_schedule:
        connection.execute(delete(ScheduledIssue).where(ScheduledIssue.c.slug == frozen.slug))
    digest = freeze(connection, frozen, at=at)
    stored = insert(StoredIssue).values(
        slug=frozen.slug,
        title=frozen.title,
        source_path=source_path,
        edition_digest=digest,
        state=IssueState.SENDING.value,
        segment=segment,
        dated_at=at,
        created_at=at,
        resend_of=resend_of,
    )
    issue_id = connection.execute(stored.returning(StoredIssue.c.id)).scalar_one()
    _write_deliveries(connection, issue_id, condition, at=at)
    if frozen.test is not None:
        digests = [digest, *(freeze(connection, arm, at=at) for arm in frozen.arms)]
        arms.begin(connection, issue_id, digests, frozen.test, seed=frozen.slug)
    announce_issue(connection, issue_id, "queued", at=at)
    return get(connection, issue_id), True


def _write_deliveries(
    connection: Connection, issue_id: int, condition: ColumnElement[bool] | None, *, at: datetime
) -> None:
    """Write one delivery for each subscriber in the audience of an issue, and their number."""
    wanted = (
        select(literal(issue_id), Subscriber.c.id, literal(DeliveryState.QUEUED.value))
        .where(audience(condition, at=at))
        .order_by(Subscriber.c.id)
    )
    queued = connection.execute(
        insert(Delivery).from_select(["issue_id", "subscriber_id", "state"], wanted),
        # Otherwise SQLAlchemy does not keep the number of inserted rows on PostgreSQL.
        execution_options={"preserve_rowcount": True},
    )
    number = queued.rowcount
    connection.execute(update(StoredIssue).where(StoredIssue.c.id == issue_id).values(audience=number))
    running_totals.add(connection, issue_id, {DeliveryState.QUEUED.value: number})
    if number >= _ANALYSE_FROM and connection.dialect.name == "postgresql":
        # Without statistics of the new rows, PostgreSQL finds a slow plan for the first claims.
        connection.execute(text("ANALYZE deliveries"))


def narrowed(
    connection: Connection, edition: Edition, segment: str, condition: ColumnElement[bool] | None
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
    original = named(connection, edition.resend.of)
    return resending.narrowed(connection, edition.resend, original.id, segment, condition)


def freeze(connection: Connection, built: Edition, *, at: datetime) -> str:
    """Store an edition unless it is stored already; return its digest."""
    digest = built.digest
    known = select(StoredEdition.c.digest).where(StoredEdition.c.digest == digest)
    if connection.scalar(known) is None:
        content = built.to_json()
        connection.execute(insert(StoredEdition).values(digest=digest, content=content, created_at=at))
    return digest


def edition_number(connection: Connection, issue_id: int) -> int:
    """Return the number of an issue's newest edition: 1, and one more for each amendment."""
    replaced = select(func.count()).where(ReplacedEdition.c.issue_id == issue_id)
    return 1 + (connection.scalar(replaced) or 0)


def count_audience(connection: Connection, condition: ColumnElement[bool] | None, *, at: datetime) -> int:
    """Return how many subscribers an issue would go to now."""
    wanted = select(func.count()).select_from(Subscriber)
    return connection.scalar(wanted.where(audience(condition, at=at))) or 0


def queued_at(connection: Connection, issue_id: int) -> datetime | None:
    """Return when an issue was queued; None for a step of a sequence, which people reach at any time."""
    found = select(StoredIssue.c.created_at).where(
        StoredIssue.c.id == issue_id, StoredIssue.c.sequence_id.is_(None)
    )
    return connection.scalar(found)


def _queued(stored: TableRow) -> QueuedIssue:
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
