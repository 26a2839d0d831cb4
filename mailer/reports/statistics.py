"""Statistics of the list and its issues, read from the counts that `mailer.reports.rollups` keeps.

Days and months are in UTC. All rates are shares from 0 to 1, or None if there is nothing to divide by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, and_, bindparam, case, func, select

from mailer.database.tables import (
    CohortCount,
    IssueCount,
    LedgerDay,
    StoredIssue,
    SubscriberStatus,
    TableRow,
)
from mailer.reports.counting import DELAYS, OTHER, hour_name
from mailer.reports.links import links_of
from mailer.reports.rollups import marks

_S = SubscriberStatus
_FIRST_DAY: Final = date(1970, 1, 1)
_HOURS_A_DAY: Final = 24
_HOUR: Final = timedelta(hours=1)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


class GrowthDay(Struct, frozen=True):
    """The changes of one day, and the number of active subscribers at its end."""

    day: date
    joined: int
    left: int
    """Unsubscribed, or removed by the operator."""
    bounced: int
    complained: int
    active: int


class Cohort(Struct, frozen=True):
    """The people who joined in one month."""

    month: str
    joined: int
    retained: tuple[int, ...]
    """How many of them had not left at the end of that month, the next month and so on. People who left
    and came back count as retained."""


class IssueFigures(Struct, frozen=True):
    """The figures of one issue."""

    issue_id: int
    slug: str
    title: str
    started_at: datetime
    """The hour of the first message; when it was queued if nothing was sent yet."""
    audience: int
    sent: int
    failed: int
    open: int
    """Deliveries that may still be sent."""
    complaints: int
    unsubscribed: int
    opens: int
    """By people, repetitions included."""
    machine_opens: int
    clicks: int
    machine_clicks: int
    tracked: int
    """Recipients who agreed to tracking: only they can be counted as people."""
    openers: int
    clickers: int
    early: int
    """Opens and clicks by people in the first 24 hours."""

    @property
    def open_rate(self) -> float | None:
        """The share of the tracked recipients who opened it."""
        return _share(self.openers, self.tracked)

    @property
    def click_rate(self) -> float | None:
        """The share of the tracked recipients who clicked."""
        return _share(self.clickers, self.tracked)

    @property
    def bounce_rate(self) -> float | None:
        """The share of the tried deliveries that failed."""
        return _share(self.failed, self.sent + self.failed)

    @property
    def complaint_rate(self) -> float | None:
        """Complaints per message sent."""
        return _share(self.complaints, self.sent)

    @property
    def unsubscribe_rate(self) -> float | None:
        """People who unsubscribed from this issue, per message sent."""
        return _share(self.unsubscribed, self.sent)


class LinkFigures(Struct, frozen=True):
    """The clicks on one link. `place` is its number in the issue, from 0."""

    place: int
    address: str
    clicks: int
    machine_clicks: int
    clickers: int


class GroupFigures(Struct, frozen=True):
    """The recipients of one domain, provider or segment."""

    name: str
    """Empty for all domains with few recipients together."""
    recipients: int
    failed: int
    tracked: int
    openers: int
    clickers: int


class HourFigures(Struct, frozen=True):
    """One hour of an issue. `opens` and `clicks` are by people, repetitions included."""

    at: datetime
    sent: int
    opens: int
    clicks: int
    machine_opens: int
    machine_clicks: int


class DelayFigures(Struct, frozen=True):
    """People by the time between their message and their first open or click."""

    at_most: timedelta | None
    """The upper end of the interval; None for later."""
    openers: int
    clickers: int


class IssueStatistics(Struct, frozen=True):
    """Everything counted about one issue."""

    figures: IssueFigures
    links: tuple[LinkFigures, ...]
    """The tracked links of the newest edition, as they appear in it."""
    providers: tuple[GroupFigures, ...]
    """The largest first. A domain is its own provider unless it is known to belong to one."""
    segments: tuple[GroupFigures, ...]
    """The saved segments. Who belonged to one was decided when the issue was first counted."""
    hours: tuple[HourFigures, ...]
    """The hours in which something happened, oldest first."""
    delays: tuple[DelayFigures, ...]
    failures: Mapping[str, int]
    """Failed deliveries by bounce class."""
    departures: Mapping[str, int]
    """People who unsubscribed from this issue, by way."""


class ListHealth(Struct, frozen=True):
    """The state of the list."""

    statuses: Mapping[str, int]
    suppressed: Mapping[str, int]
    """Suppressed addresses by reason."""
    tracked: int
    """Active subscribers who agreed to tracking."""
    paused: int
    """Active subscribers who paused."""
    soft_bouncing: int
    """Active subscribers with soft bounces that still count."""
    bounce_rate: float | None
    """Of the last four issues, like the other rates."""
    complaint_rate: float | None
    unsubscribe_rate: float | None


def counted_at(connection: Connection) -> datetime | None:
    """Return the time of the counts; None if nothing was counted yet."""
    return marks(connection).counted_at


def growth(connection: Connection, since: date, until: date) -> tuple[GrowthDay, ...]:
    """Return the changes of each day from `since` to `until`, both included."""
    became = LedgerDay.c.after == _S.ACTIVE.value
    was = LedgerDay.c.before == _S.ACTIVE.value
    people = LedgerDay.c.people
    to_active = func.coalesce(func.sum(case((became, people), (was, -people), else_=0)), 0)
    first, last = (since - _FIRST_DAY).days, (until - _FIRST_DAY).days
    active = int(connection.scalar(select(to_active).where(LedgerDay.c.day < first)) or 0)
    rows = connection.execute(
        select(
            LedgerDay.c.day,
            func.sum(case((became, people), else_=0)),
            *(
                func.sum(case((and_(was, LedgerDay.c.after == gone.value), people), else_=0))
                for gone in (_S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED)
            ),
            to_active,
        )
        .where(LedgerDay.c.day.between(first, last))
        .group_by(LedgerDay.c.day)
    )
    by_day = {row[0]: [int(number) for number in row[1:]] for row in rows}
    days: list[GrowthDay] = []
    for number in range(first, last + 1):
        joined, left, bounced, complained, change = by_day.get(number, [0, 0, 0, 0, 0])
        active += change
        day = _FIRST_DAY + timedelta(days=number)
        days.append(GrowthDay(day, joined, left, bounced, complained, active))
    return tuple(days)


def cohorts(connection: Connection, until: date) -> tuple[Cohort, ...]:
    """Return the people who joined in each month up to that of `until`, oldest month first."""
    by_month: dict[str, Counter[str]] = {}
    for joined, left, people in connection.execute(
        select(CohortCount.c.joined_month, CohortCount.c.left_month, CohortCount.c.people)
    ):
        by_month.setdefault(joined, Counter())[left] += people
    return tuple(_cohort(month, by_month[month], until) for month in sorted(by_month))


def _cohort(month: str, left: Counter[str], until: date) -> Cohort:
    total = remaining = left.total()
    retained: list[int] = []
    current = month
    while current <= until.isoformat()[:7]:
        remaining -= left[current]
        retained.append(remaining)
        year, number = int(current[:4]), int(current[5:])
        current = f"{year + number // 12}-{number % 12 + 1:02}"
    return Cohort(month, total, tuple(retained))


def issue_figures(
    connection: Connection,
    *,
    issue_id: int | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> tuple[IssueFigures, ...]:
    """Return the figures of the issues queued since then, newest first; or those of one issue."""
    issue = StoredIssue.c
    chosen = (
        select(issue.id, issue.slug, issue.title, issue.audience, issue.created_at)
        .order_by(issue.id.desc())
        .limit(limit)
    )
    if issue_id is not None:
        chosen = chosen.where(issue.id == issue_id)
    if since is not None:
        chosen = chosen.where(issue.created_at >= since)
    stored = connection.execute(chosen).all()
    ids = [one.id for one in stored]
    sums = select(
        IssueCount.c.issue_id, IssueCount.c.facet, IssueCount.c.measure, func.sum(IssueCount.c.number)
    ).where(
        IssueCount.c.issue_id.in_(ids), IssueCount.c.facet.in_(["books", "reports", "left", "domain", "hour"])
    )
    numbers: dict[int, Counter[tuple[str, str]]] = {one: Counter() for one in ids}
    for one, facet, measure, number in connection.execute(
        sums.group_by(IssueCount.c.issue_id, IssueCount.c.facet, IssueCount.c.measure)
    ):
        numbers[one][facet, measure] = int(number)
    starts = _starts(connection, ids)
    return tuple(
        _figures(one, numbers[one.id], started_at, _early(connection, one.id, started_at))
        for one, started_at in ((one, starts.get(one.id, one.created_at)) for one in stored)
    )


def _starts(connection: Connection, ids: Sequence[int]) -> dict[int, datetime]:
    rows = connection.execute(
        select(IssueCount.c.issue_id, func.min(IssueCount.c.name))
        .where(IssueCount.c.issue_id.in_(ids), IssueCount.c.facet == "sent")
        .group_by(IssueCount.c.issue_id)
    )
    return {row[0]: _hour(row[1]) for row in rows}


_EARLY: Final = select(func.sum(IssueCount.c.number)).where(
    IssueCount.c.issue_id == bindparam("issue_id"),
    IssueCount.c.facet == "hour",
    IssueCount.c.name >= bindparam("since"),
    IssueCount.c.name < bindparam("until"),
    IssueCount.c.measure.in_(["opens", "clicks"]),
)


def _early(connection: Connection, issue_id: int, started_at: datetime) -> int:
    """Return the opens and clicks by people in the first 24 hours of an issue."""
    first = int(started_at.timestamp()) // 3600
    since, until = hour_name(first), hour_name(first + _HOURS_A_DAY)
    found = connection.scalar(_EARLY, {"issue_id": issue_id, "since": since, "until": until})
    return int(found or 0)


def _hour(name: str) -> datetime:
    return datetime.fromtimestamp(int(name) * 3600, UTC)


def _figures(
    stored: TableRow, numbers: Counter[tuple[str, str]], started_at: datetime, early: int
) -> IssueFigures:
    return IssueFigures(
        issue_id=stored.id,
        slug=stored.slug,
        title=stored.title,
        started_at=started_at,
        audience=stored.audience,
        sent=numbers["books", "sent"],
        failed=numbers["books", "failed"],
        open=sum(numbers["books", state] for state in ("queued", "sending", "deferred", "uncertain")),
        complaints=numbers["reports", "complaints"],
        unsubscribed=numbers["left", "unsubscribed"],
        opens=numbers["hour", "opens"],
        machine_opens=numbers["hour", "machine_opens"],
        clicks=numbers["hour", "clicks"],
        machine_clicks=numbers["hour", "machine_clicks"],
        tracked=numbers["domain", "tracked"],
        openers=numbers["domain", "openers"],
        clickers=numbers["domain", "clickers"],
        early=early,
    )


def issue_statistics(
    connection: Connection, issue_id: int, *, providers: Mapping[str, str] = MappingProxyType({})
) -> IssueStatistics | None:
    """Return everything counted about an issue, or None if there is no such issue.

    `providers` maps domains to configured providers.
    """
    figures = issue_figures(connection, issue_id=issue_id)
    if not figures:
        return None
    facets: dict[str, dict[str, Counter[str]]] = {}
    for facet, name, measure, number in connection.execute(
        select(IssueCount.c.facet, IssueCount.c.name, IssueCount.c.measure, IssueCount.c.number)
        .where(IssueCount.c.issue_id == issue_id)
        .order_by(IssueCount.c.facet, IssueCount.c.name)
    ):
        facets.setdefault(facet, {}).setdefault(name, Counter())[measure] += number
    return IssueStatistics(
        figures=figures[0],
        links=_links(connection, issue_id, facets.get("link", {})),
        providers=_by_provider(facets, providers),
        segments=tuple(_group(name, one) for name, one in facets.get("segment", {}).items()),
        hours=_hours(facets),
        delays=_delays(facets.get("delay", {})),
        failures={name: one["failed"] for name, one in facets.get("failed", {}).items()},
        departures={
            way: one["unsubscribed"] for way, one in facets.get("left", {}).items() if one["unsubscribed"]
        },
    )


def _links(
    connection: Connection, issue_id: int, found: Mapping[str, Counter[str]]
) -> tuple[LinkFigures, ...]:
    digest = connection.scalars(
        select(StoredIssue.c.edition_digest).where(StoredIssue.c.id == issue_id)
    ).one()
    figures: list[LinkFigures] = []
    for place, address in enumerate(links_of(connection, digest)):
        one = found.get(str(place), Counter[str]())
        figures.append(LinkFigures(place, address, one["clicks"], one["machine_clicks"], one["clickers"]))
    return tuple(figures)


def _by_provider(
    facets: Mapping[str, Mapping[str, Counter[str]]], providers: Mapping[str, str]
) -> tuple[GroupFigures, ...]:
    # Imported on use: the judge of replies comes along, which compiles many patterns.
    from mailer.replies.mailbox_hosts import provider_of

    sums: dict[str, Counter[str]] = {}
    for facet in ("domain", "failed_domain"):
        for domain, numbers in facets.get(facet, {}).items():
            name = provider_of(domain, providers) if domain else OTHER
            sums.setdefault(name, Counter()).update(numbers)
    largest = sorted(sums.items(), key=lambda item: (not item[0], -item[1]["recipients"], item[0]))
    return tuple(_group(name, one) for name, one in largest)


def _group(name: str, one: Counter[str]) -> GroupFigures:
    return GroupFigures(
        name, one["recipients"], one["failed"], one["tracked"], one["openers"], one["clickers"]
    )


def _hours(facets: Mapping[str, Mapping[str, Counter[str]]]) -> tuple[HourFigures, ...]:
    sent, seen = facets.get("sent", {}), facets.get("hour", {})
    hours: list[HourFigures] = []
    for name in sorted({*sent, *seen}):
        one = sent.get(name, Counter()) + seen.get(name, Counter())
        hours.append(
            HourFigures(
                _hour(name),
                one["sent"],
                one["opens"],
                one["clicks"],
                one["machine_opens"],
                one["machine_clicks"],
            )
        )
    return tuple(hours)


def first_hours(hours: Sequence[HourFigures], most: int) -> tuple[HourFigures, ...]:
    """Return up to `most` hours from the first one, with those in between in which nothing happened."""
    if not hours:
        return ()
    known = {one.at: one for one in hours}
    number = min(most, (hours[-1].at - hours[0].at) // _HOUR + 1)
    times = (hours[0].at + n * _HOUR for n in range(number))
    return tuple(known.get(at) or HourFigures(at, 0, 0, 0, 0, 0) for at in times)


def _delays(found: Mapping[str, Counter[str]]) -> tuple[DelayFigures, ...]:
    return tuple(
        DelayFigures(at_most, found[str(place)]["openers"], found[str(place)]["clickers"])
        if str(place) in found
        else DelayFigures(at_most, 0, 0)
        for place, at_most in enumerate((*DELAYS, None))
    )


def list_health(connection: Connection) -> ListHealth:
    """Return the state of the list."""
    statuses: Counter[str] = Counter()
    for before, after, people in connection.execute(
        select(LedgerDay.c.before, LedgerDay.c.after, func.sum(LedgerDay.c.people)).group_by(
            LedgerDay.c.before, LedgerDay.c.after
        )
    ):
        statuses[after] += int(people)
        statuses[before] -= int(people)
    rows = connection.execute(
        select(IssueCount.c.facet, IssueCount.c.name, IssueCount.c.measure, IssueCount.c.number)
        .where(IssueCount.c.issue_id == 0)
        .order_by(IssueCount.c.name)
    )
    suppressed: dict[str, int] = {}
    active: Counter[str] = Counter()
    for facet, name, measure, number in rows:
        if facet == "suppressed":
            suppressed[name] = number
        else:
            active[measure] = number
    last = issue_figures(connection, limit=4)
    sent, failed = sum(one.sent for one in last), sum(one.failed for one in last)
    return ListHealth(
        statuses={status.value: statuses[status.value] for status in _S if status is not _S.ERASED},
        suppressed=suppressed,
        tracked=active["tracked"],
        paused=active["paused"],
        soft_bouncing=active["soft"],
        bounce_rate=_share(failed, sent + failed),
        complaint_rate=_share(sum(one.complaints for one in last), sent),
        unsubscribe_rate=_share(sum(one.unsubscribed for one in last), sent),
    )
