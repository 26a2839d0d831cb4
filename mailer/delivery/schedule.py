"""Issues that are sent at a set time.

An issue is frozen when it is scheduled; its audience is chosen when it is due. A worker queues what is due.
An issue that is more than an hour late is not sent without asking: the machine was off, or an old copy of
the database was restored, and the issue may have been sent since.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from mailer.database.tables import ALERT, Event, ScheduledIssue, TableRow
from mailer.delivery import control, issues, lock
from mailer.delivery.clock import now
from mailer.delivery.issue_names import is_named
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError, SourceError
from mailer.rendering.edition import Edition

STALE_AFTER: Final = timedelta(hours=1)
"""An issue that is due for longer than this waits for the operator."""
# The columns of a `Scheduled`, without the content of the issue.
_PLAN: Final = (
    ScheduledIssue.c.slug, ScheduledIssue.c.segment, ScheduledIssue.c.due_at, ScheduledIssue.c.zone,
    ScheduledIssue.c.missed_at, ScheduledIssue.c.wall_time, ScheduledIssue.c.began_at,
)  # fmt: skip


class Scheduled(Struct, frozen=True):
    """An issue that waits for its time."""

    slug: str
    segment: str
    due_at: datetime
    zone: str
    missed: bool
    """Whether its time passed without a worker; it is not sent any more."""
    wall: datetime | None = None
    """The time on the clock in every subscriber's zone; then `due_at` is the instant of the next zone."""
    began_at: datetime | None = None
    """When its audience was fixed; only with `wall`."""

    @property
    def local(self) -> datetime:
        """The time in the zone that the operator chose."""
        return self.due_at.astimezone(ZoneInfo(self.zone) if self.zone else None)

    @property
    def shown(self) -> str:
        """The time as people read it."""
        if self.wall is not None:
            return f"{self.wall:%Y-%m-%d %H:%M} local time"
        return f"{self.local:%Y-%m-%d %H:%M %Z}"


def instant(local: datetime, zone: str = "") -> datetime:
    """Return the instant of a local time in an IANA zone, or in the machine's own.

    Follows RFC 5545 section 3.3.5 where clocks change: a time that occurs twice is the first of the two, and
    a time that is skipped counts as if the clocks had not changed yet, so 02:30 becomes 03:30. An aware
    `local` is an instant already.
    """
    if local.tzinfo is None and zone:
        local = local.replace(tzinfo=ZoneInfo(zone), fold=0)
    return local.astimezone(UTC)


def add(
    connection: Connection,
    edition: Edition,
    *,
    source_path: str,
    segment: str,
    due_at: datetime,
    zone: str,
    at: datetime,
    wall: datetime | None = None,
) -> Scheduled:
    """Schedule an issue, or move it to another time with its present content.

    Raises `RefusedError` if the time has passed, if the issue is queued already, or if the database is a
    copy.
    """
    lock.remember_home(connection)
    if due_at <= at:
        raise RefusedError(
            f"{due_at.astimezone():%Y-%m-%d %H:%M} has passed",
            remedy=f"send it now with: mailer send {edition.slug}",
        )
    if issues.find(connection, edition.slug) is not None:
        raise RefusedError(
            f"{edition.slug} is queued already",
            remedy=f"see how far it is with: mailer status {edition.slug}",
        )
    connection.execute(delete(ScheduledIssue).where(ScheduledIssue.c.slug == edition.slug))
    stored = insert(ScheduledIssue).values(
        slug=edition.slug,
        source_path=source_path,
        edition=edition.to_json(),
        segment=segment,
        due_at=due_at,
        zone=zone,
        created_at=at,
        wall_time=wall.isoformat() if wall is not None else "",
    )
    return planned(connection.execute(stored.returning(*_PLAN)).one())


def add_with_undo(
    connection: Connection, edition: Edition, *, source_path: str, segment: str, at: datetime, wait: timedelta
) -> Scheduled:
    """Schedule an issue for when `wait`, the time for undoing, has passed; until then, `cancel` undoes it.

    For programs that only queue issues and leave the sending to a worker. Raises the errors of `add`.
    """
    return add(
        connection, edition, source_path=source_path, segment=segment, due_at=at + wait, zone="", at=at
    )


def scheduled(connection: Connection) -> list[Scheduled]:
    """Return the scheduled issues, the next one first."""
    every = connection.execute(select(*_PLAN).order_by(ScheduledIssue.c.due_at))
    return [planned(stored) for stored in every]


def find(connection: Connection, slug: str) -> Scheduled | None:
    """Return the schedule of an issue, or None."""
    stored = connection.execute(select(*_PLAN).where(ScheduledIssue.c.slug == slug)).one_or_none()
    return None if stored is None else planned(stored)


def cancel(connection: Connection, name: str) -> str:
    """Remove the schedule of the issue with this slug or number; return its slug.

    What was queued for earlier time zones is still sent. Raises `SourceError` if there is none.
    """
    known = [one.slug for one in scheduled(connection)]
    for slug in known:
        if is_named(slug, name):
            end(connection, slug, at=now())
            return slug
    raise SourceError(
        f"no issue '{name}' is scheduled", remedy=f"the scheduled issues are: {', '.join(known) or 'none'}"
    )


def end(connection: Connection, slug: str, *, at: datetime) -> None:
    """Remove a schedule; finish the issue if part of it was queued and no delivery is open."""
    connection.execute(delete(ScheduledIssue).where(ScheduledIssue.c.slug == slug))
    if (issue := issues.find(connection, slug)) is not None:
        control.finish(connection, issue.id, at=at)


def due(connection: Connection, *, at: datetime) -> list[Scheduled]:
    """Return the scheduled issues whose time has come, the oldest first."""
    return [one for one in scheduled(connection) if one.due_at <= at and not one.missed]


def queue_due(
    connection: Connection, slug: str, *, at: datetime, condition: ColumnElement[bool] | None
) -> QueuedIssue | None:
    """Queue a scheduled issue that is due for the audience of its condition.

    Returns None if it was cancelled or queued meanwhile, or if it is stale: then the operator is alerted.
    For one that is sent by local time, see `local_time.queue_due`.
    """
    stored = locked(connection, slug, at=at)
    if stored is None:
        return None
    if at - stored.due_at > STALE_AFTER:
        miss(connection, slug, at=at)
        return None
    frozen, source_path, segment = Edition.from_json(stored.edition), stored.source_path, stored.segment
    issue, _ = issues.enqueue(
        connection, frozen, source_path=source_path, at=at, segment=segment, condition=condition
    )
    return issue


def locked(connection: Connection, slug: str, *, at: datetime) -> TableRow | None:
    """Lock and return the schedule of an issue if it is due and was not missed.

    A simultaneous worker, or a cancellation, waits until this transaction ends.
    """
    wanted = select(ScheduledIssue).where(ScheduledIssue.c.slug == slug).with_for_update()
    stored = connection.execute(wanted).one_or_none()
    return None if stored is None or stored.due_at > at or stored.missed_at is not None else stored


def miss(connection: Connection, slug: str, *, at: datetime, why: str = "no worker ran then") -> None:
    """Let a scheduled issue that is due wait for the operator, and alert them."""
    missed = update(ScheduledIssue).where(ScheduledIssue.c.slug == slug).values(missed_at=at)
    stored = planned(connection.execute(missed.returning(*_PLAN)).one())
    when = stored.wall or stored.local
    some = issues.find(connection, slug) is not None
    said = (
        f"{slug} was to be sent at {when:%Y-%m-%d %H:%M}, and {why}. It is not sent"
        f"{' to the rest' if some else ''}. To send it: mailer send {slug}{' --new-only' if some else ''}"
    )
    connection.execute(insert(Event).values(at=at, kind=ALERT, details={"text": said}))


def planned(stored: TableRow) -> Scheduled:
    """Return a schedule as it is stored, from a row with the columns of `_PLAN`."""
    return Scheduled(
        stored.slug,
        stored.segment,
        stored.due_at,
        stored.zone,
        missed=stored.missed_at is not None,
        wall=datetime.fromisoformat(stored.wall_time) if stored.wall_time else None,
        began_at=stored.began_at,
    )
