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
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from mailer.database.models import ALERT, Event, ScheduledIssue
from mailer.delivery import control, issues, lock
from mailer.delivery.clock import now
from mailer.delivery.issue_names import is_named
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError, SourceError
from mailer.rendering.edition import Edition

STALE_AFTER: Final = timedelta(hours=1)
"""An issue that is due for longer than this waits for the operator."""


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
    session: Session,
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
    lock.remember_home(session)
    if due_at <= at:
        raise RefusedError(
            f"{due_at.astimezone():%Y-%m-%d %H:%M} has passed",
            remedy=f"send it now with: mailer send {edition.slug}",
        )
    if issues.find(session, edition.slug) is not None:
        raise RefusedError(
            f"{edition.slug} is queued already",
            remedy=f"see how far it is with: mailer status {edition.slug}",
        )
    session.execute(delete(ScheduledIssue).where(ScheduledIssue.slug == edition.slug))
    stored = ScheduledIssue(
        slug=edition.slug,
        source_path=source_path,
        edition=edition.to_json(),
        segment=segment,
        due_at=due_at,
        zone=zone,
        created_at=at,
        wall_time=wall.isoformat() if wall is not None else "",
    )
    session.add(stored)
    session.flush()
    return planned(stored)


def add_with_undo(
    session: Session, edition: Edition, *, source_path: str, segment: str, at: datetime, wait: timedelta
) -> Scheduled:
    """Schedule an issue for when `wait`, the time for undoing, has passed; until then, `cancel` undoes it.

    For programs that only queue issues and leave the sending to a worker. Raises the errors of `add`.
    """
    return add(session, edition, source_path=source_path, segment=segment, due_at=at + wait, zone="", at=at)


def scheduled(session: Session) -> list[Scheduled]:
    """Return the scheduled issues, the next one first."""
    return [planned(row) for row in session.scalars(select(ScheduledIssue).order_by(ScheduledIssue.due_at))]


def find(session: Session, slug: str) -> Scheduled | None:
    """Return the schedule of an issue, or None."""
    stored = session.scalar(select(ScheduledIssue).where(ScheduledIssue.slug == slug))
    return None if stored is None else planned(stored)


def cancel(session: Session, name: str) -> str:
    """Remove the schedule of the issue with this slug or number; return its slug.

    What was queued for earlier time zones is still sent. Raises `SourceError` if there is none.
    """
    known = [one.slug for one in scheduled(session)]
    for slug in known:
        if is_named(slug, name):
            end(session, slug, at=now())
            return slug
    raise SourceError(
        f"no issue '{name}' is scheduled", remedy=f"the scheduled issues are: {', '.join(known) or 'none'}"
    )


def end(session: Session, slug: str, *, at: datetime) -> None:
    """Remove a schedule; finish the issue if part of it was queued and no delivery is open."""
    session.execute(delete(ScheduledIssue).where(ScheduledIssue.slug == slug))
    if (issue := issues.find(session, slug)) is not None:
        control.finish(session, issue.id, at=at)


def due(session: Session, *, at: datetime) -> list[Scheduled]:
    """Return the scheduled issues whose time has come, the oldest first."""
    return [one for one in scheduled(session) if one.due_at <= at and not one.missed]


def queue_due(
    session: Session, slug: str, *, at: datetime, condition: ColumnElement[bool] | None
) -> QueuedIssue | None:
    """Queue a scheduled issue that is due for the audience of its condition.

    Returns None if it was cancelled or queued meanwhile, or if it is stale: then the operator is alerted.
    For one that is sent by local time, see `local_time.queue_due`.
    """
    stored = locked(session, slug, at=at)
    if stored is None:
        return None
    if at - stored.due_at > STALE_AFTER:
        miss(session, slug, at=at)
        return None
    frozen, source_path, segment = Edition.from_json(stored.edition), stored.source_path, stored.segment
    issue, _ = issues.enqueue(
        session, frozen, source_path=source_path, at=at, segment=segment, condition=condition
    )
    return issue


def locked(session: Session, slug: str, *, at: datetime) -> ScheduledIssue | None:
    """Lock and return the schedule of an issue if it is due and was not missed.

    A simultaneous worker, or a cancellation, waits until this transaction ends.
    """
    wanted = select(ScheduledIssue).where(ScheduledIssue.slug == slug).with_for_update()
    stored = session.scalar(wanted)
    return None if stored is None or stored.due_at > at or stored.missed_at is not None else stored


def miss(session: Session, slug: str, *, at: datetime, why: str = "no worker ran then") -> None:
    """Let a scheduled issue that is due wait for the operator, and alert them."""
    stored = session.scalars(select(ScheduledIssue).where(ScheduledIssue.slug == slug)).one()
    stored.missed_at = at
    when = planned(stored).wall or planned(stored).local
    some = issues.find(session, slug) is not None
    said = (
        f"{slug} was to be sent at {when:%Y-%m-%d %H:%M}, and {why}. It is not sent"
        f"{' to the rest' if some else ''}. To send it: mailer send {slug}{' --new-only' if some else ''}"
    )
    session.add(Event(at=at, kind=ALERT, details={"text": said}))


def planned(stored: ScheduledIssue) -> Scheduled:
    """Return a schedule as it is stored."""
    return Scheduled(
        stored.slug,
        stored.segment,
        stored.due_at,
        stored.zone,
        missed=stored.missed_at is not None,
        wall=datetime.fromisoformat(stored.wall_time) if stored.wall_time else None,
        began_at=stored.began_at,
    )
