"""Issues that everyone gets at the same local time, each subscriber in their own time zone.

A subscriber's zone is the attribute `timezone` (an IANA name); for anyone else it is the zone of the
schedule. The audience is fixed when the first zone on earth reaches the time: nobody who subscribes later
is added. From then on the schedule is due once for each zone, and queues the subscribers whose turn has
come. A delivery is never queued twice, so nobody gets the issue twice, even if they change their zone in
between. Someone who moves to a zone whose turn has passed is queued with the next one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import available_timezones

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, literal, or_, select, true, update

from mailer.database.tables import Delivery, ScheduledIssue, StoredIssue, Subscriber, TableRow
from mailer.delivery import issues, newcomers, schedule
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.schedule import Scheduled, instant
from mailer.errors import RefusedError
from mailer.printable import counted
from mailer.rendering.edition import Edition

ATTRIBUTE: Final = "timezone"
_FIRST_ZONE: Final = "Pacific/Kiritimati"
"""The zone whose clocks are ahead of all others: UTC+14, without daylight saving time."""
_ZONE: Final[ColumnElement[str]] = Subscriber.c.attributes[ATTRIBUTE].as_string()


class Wave(Struct, frozen=True):
    """The subscribers who get an issue at one instant."""

    at: datetime
    people: int
    zones: tuple[str, ...]
    """Their time zones, the one with the most subscribers first; empty for those without one."""

    def as_dict(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        return {"at": self.at.isoformat(), "subscribers": self.people, "zones": list(self.zones)}


def add(
    connection: Connection,
    edition: Edition,
    *,
    source_path: str,
    segment: str,
    wall: datetime,
    zone: str,
    at: datetime,
    condition: ColumnElement[bool] | None,
) -> Scheduled:
    """Schedule an issue for a local time, `wall`, in every time zone; `zone` is that of everyone without one.

    Raises `RefusedError` as `schedule.add` does, or if the time has passed where a subscriber is.
    """
    if wall.tzinfo is not None:
        raise RefusedError(
            "a local time has no offset from UTC",
            remedy="write it like 2026-12-04T08:00, without Z or +02:00",
        )
    if edition.test is not None or edition.resend is not None:
        raise RefusedError(
            "an A/B test or a resend cannot be sent by local time", remedy="schedule it without --local-time"
        )
    for wave in _waves(connection, edition.slug, wall, zone, condition, at=at, began_at=at):
        if wave.at <= at:
            raise RefusedError(
                f"{wall:%Y-%m-%d %H:%M} has passed in {wave.zones[0]}, the zone of"
                f" {counted(wave.people, 'subscriber')}",
                remedy="choose a later time, or schedule it without --local-time",
            )
    first = max(instant(wall, _FIRST_ZONE), at + timedelta(microseconds=1))
    return schedule.add(
        connection,
        edition,
        source_path=source_path,
        segment=segment,
        due_at=first,
        zone=zone,
        at=at,
        wall=wall,
    )


def waves(
    connection: Connection, planned: Scheduled, condition: ColumnElement[bool] | None, *, at: datetime
) -> list[Wave]:
    """Return the waves of subscribers who still get a scheduled issue, the next ones first."""
    assert planned.wall is not None
    return _waves(
        connection,
        planned.slug,
        planned.wall,
        planned.zone,
        condition,
        at=at,
        began_at=planned.began_at or at,
    )


def queue_due(
    connection: Connection, slug: str, *, at: datetime, condition: ColumnElement[bool] | None
) -> QueuedIssue | None:
    """Queue a scheduled issue for everyone whose turn has come.

    Its schedule moves to the next zone, or is removed. Returns None if nobody's turn has come, or if it is
    too late: then the operator is alerted.
    """
    stored = schedule.locked(connection, slug, at=at)
    if stored is None:
        return None
    planned, began_at = schedule.planned(stored), stored.began_at or at
    assert planned.wall is not None
    left = _waves(connection, stored.slug, planned.wall, stored.zone, condition, at=at, began_at=began_at)
    # Earlier zones have had their turn: subscribers who are left there have just moved there.
    if any(wave.at >= stored.due_at and at - wave.at > schedule.STALE_AFTER for wave in left):
        schedule.miss(connection, stored.slug, at=at)
        return None
    due = frozenset(zone for wave in left if wave.at <= at for zone in wave.zones)
    ahead = [wave.at for wave in left if wave.at > at]
    issue = _queue(connection, stored, due, at=at, began_at=began_at, condition=condition) if due else None
    if ahead:
        connection.execute(
            update(ScheduledIssue)
            .where(ScheduledIssue.c.id == stored.id)
            .values(began_at=began_at, due_at=ahead[0])
        )
    else:
        schedule.end(connection, stored.slug, at=at)
    return issue


def _queue(
    connection: Connection,
    stored: TableRow,
    zones: Collection[str],
    *,
    at: datetime,
    began_at: datetime,
    condition: ColumnElement[bool] | None,
) -> QueuedIssue:
    """Queue the subscribers of some zones; an empty name stands for those without one."""
    clocks: list[ColumnElement[bool]] = [_ZONE.in_(sorted(zone for zone in zones if zone))]
    if "" in zones:
        clocks.append(func.coalesce(_ZONE.not_in(_names()), true()))
    chosen = and_(_early(condition, began_at), or_(*clocks))
    known = issues.find(connection, stored.slug)
    if known is not None:
        newcomers.add(connection, known.id, chosen, at=at)
        return known
    issue, _ = issues.enqueue(
        connection,
        Edition.from_json(stored.edition),
        source_path=stored.source_path,
        at=at,
        segment=stored.segment,
        condition=chosen,
        keep_schedule=True,
    )
    return issue


def _waves(
    connection: Connection,
    slug: str,
    wall: datetime,
    zone: str,
    condition: ColumnElement[bool] | None,
    *,
    at: datetime,
    began_at: datetime,
) -> list[Wave]:
    """Return the audience that has no delivery yet, by the instant of its turn."""
    has_one = exists().where(
        Delivery.c.subscriber_id == Subscriber.c.id,
        Delivery.c.issue_id == select(StoredIssue.c.id).where(StoredIssue.c.slug == slug).scalar_subquery(),
    )
    # Bounded by the number of zones there are, whatever the attributes contain.
    known = case((_ZONE.in_(_names()), _ZONE), else_=literal(""))
    found = connection.execute(
        select(known.label("zone"), func.count())
        .where(issues.audience(_early(condition, began_at), at=at), ~has_one)
        .group_by("zone")
    )
    by_instant: Mapping[datetime, list[tuple[int, str]]] = defaultdict(list)
    for name, people in found:
        by_instant[instant(wall, name or zone)].append((people, name))
    return [
        Wave(due_at, sum(people for people, _ in ones), tuple(name for _, name in sorted(ones, reverse=True)))
        for due_at, ones in sorted(by_instant.items())
    ]


def _early(condition: ColumnElement[bool] | None, began_at: datetime) -> ColumnElement[bool]:
    """Return the condition, and that a subscriber was known when the audience was fixed."""
    return and_(true() if condition is None else condition, Subscriber.c.created_at <= began_at)


@cache
def _names() -> list[str]:
    return sorted(available_timezones())
