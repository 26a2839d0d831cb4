"""Count ledger lines, deliveries, events and reports for statistics.

Each function reads rows and returns counts; `mailer.reports.rollups` decides what to count and stores the
result. A count of an issue is named by a facet, a name within it and a measure:

| facet | name | measures |
|---|---|---|
| `books` | | the states of its deliveries |
| `sent` | hour | `sent`: deliveries accepted in that hour |
| `failed` | bounce class | `failed` |
| `failed_domain` | as of `domain` | `failed` |
| `reports` | | `complaints` |
| `left` | way | `unsubscribed`, `bounced`, `complained`: people who were active before |
| `domain`, `segment` | domain, or saved segment | `recipients`, `tracked`, `openers`, `clickers` |
| `hour` | hour | `opens` and `clicks` by people, `machine_opens`, `machine_clicks` |
| `link` | number of the link | `clicks`, `machine_clicks`, `clickers` |
| `delay` | interval in `DELAYS` | `openers`, `clickers`: by the time since the first attempt to send |

Small domains are counted together, by their provider if it is known. Hours count from 1970. Openers and
clickers are distinct people and known only of those who agreed to tracking (`tracked`); opens and clicks
include everyone else's, which are stored without a name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Subquery,
    and_,
    case,
    exists,
    func,
    literal_column,
    select,
    type_coerce,
)

from mailer.database.tables import (
    SOFT_BOUNCE,
    Consent,
    Delivery,
    DeliveryState,
    Event,
    StoredReport,
    Subscriber,
    SubscriberStatus,
    Suppression,
)

_S = SubscriberStatus
HOUR: Final = 3_600_000_000
"""Microseconds, the unit of a stored `Instant`."""
DAY: Final = 24 * HOUR
DELAYS: Final = (
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=8),
    timedelta(days=1),
    timedelta(days=2),
    timedelta(days=4),
    timedelta(days=7),
)
"""The upper ends of the intervals between a message and its first open or click; one more is open."""
OTHER: Final = ""
"""The name for all domains that are not counted separately, nor with their provider."""
_MOST_DOMAINS: Final = 50
_FEWEST_RECIPIENTS: Final = 5
"""A domain with fewer recipients is not shown: its numbers would be about single people."""
_PEOPLE: Final = {"open": "openers", "click": "clickers"}
_TIMES: Final = {"open": "opens", "click": "clicks"}


class Key(NamedTuple):
    """The key of a number; the table above lists the values."""

    issue_id: int
    facet: str
    name: str
    measure: str


def _integer(column: Any) -> ColumnElement[int]:
    return type_coerce(column, BigInteger)


def _number(value: int) -> ColumnElement[int]:
    """Return a literal, because PostgreSQL cannot group by an expression with parameters."""
    return literal_column(str(value), BigInteger)


def _per(column: Any, unit: int) -> ColumnElement[int]:
    """Return the number of whole units since 1970."""
    whole: ColumnElement[int] = _integer(column) // _number(unit)
    return whole


def hour_name(hour: int) -> str:
    """Return the name of an hour; names sort like hours."""
    return f"{hour:07}"


def ledger_days(connection: Connection) -> list[dict[str, object]]:
    """Return the rows of `LedgerDay`. Erased people, whose earlier lines are deleted, are not counted."""
    rows = connection.execute(
        select(
            _per(Consent.c.at, DAY).label("on_day"),
            Consent.c.before,
            Consent.c.after,
            Consent.c.way,
            func.count().label("people"),
        )
        .where(Consent.c.before != Consent.c.after, Consent.c.after != _S.ERASED.value)
        .group_by("on_day", Consent.c.before, Consent.c.after, Consent.c.way)
    )
    return [
        {"day": row.on_day, "before": row.before, "after": row.after, "way": row.way, "people": row.people}
        for row in rows
    ]


def departures(connection: Connection) -> Counter[Key]:
    """Return the facet `left` of all issues."""
    rows = connection.execute(
        select(Consent.c.issue_id, Consent.c.way, Consent.c.after, func.count())
        .where(
            Consent.c.issue_id.is_not(None),
            Consent.c.before == _S.ACTIVE.value,
            Consent.c.after.in_([_S.UNSUBSCRIBED.value, _S.BOUNCED.value, _S.COMPLAINED.value]),
        )
        .group_by(Consent.c.issue_id, Consent.c.way, Consent.c.after)
    )
    found: Counter[Key] = Counter()
    for issue_id, way, after, number in rows:
        if issue_id is not None:
            found[Key(issue_id, "left", way, after)] = number
    return found


def cohorts(connection: Connection) -> Counter[tuple[str, str]]:
    """Return how many people first became active in a month, by the month in which they left."""
    moved = Consent.c.before != Consent.c.after
    lines = (
        select(
            Consent.c.subscriber_id,
            func.min(case((and_(moved, Consent.c.after == _S.ACTIVE.value), _integer(Consent.c.at)))).label(
                "joined"
            ),
            func.max(case((and_(moved, Consent.c.before == _S.ACTIVE.value), _integer(Consent.c.at)))).label(
                "gone"
            ),
        )
        .group_by(Consent.c.subscriber_id)
        .subquery()
    )
    joined = (lines.c.joined // _number(DAY)).label("joined_day")
    gone = case(
        (Subscriber.c.status == _S.ACTIVE.value, _number(-1)),
        else_=lines.c.gone // _number(DAY),
    ).label("gone_day")
    rows = connection.execute(
        select(joined, gone, func.count())
        .select_from(lines)
        .join(Subscriber, Subscriber.c.id == lines.c.subscriber_id)
        .where(lines.c.joined.is_not(None))
        .group_by("joined_day", "gone_day")
    )
    found: Counter[tuple[str, str]] = Counter()
    for joined_day, gone_day, number in rows:
        found[_month(joined_day), "" if gone_day in (None, -1) else _month(gone_day)] += number
    return found


def _month(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()[:7]


def whole_list(connection: Connection, *, soft_since: datetime) -> Counter[Key]:
    """Return the numbers about the list: suppressions, people with soft bounces, consents to tracking.

    Soft bounces count if the last one happened at `soft_since` or later.
    """
    found: Counter[Key] = Counter()
    for reason, number in connection.execute(
        select(Suppression.c.reason, func.count()).group_by(Suppression.c.reason)
    ):
        found[Key(0, "suppressed", reason, "addresses")] = number
    active = Subscriber.c.status == _S.ACTIVE.value
    recent = exists().where(
        Event.c.subscriber_id == Subscriber.c.id,
        Event.c.kind == SOFT_BOUNCE,
        Event.c.at >= Subscriber.c.soft_since,
        Event.c.at >= soft_since,
    )
    row = connection.execute(
        select(
            func.count(case((and_(Subscriber.c.soft_points > 0, recent), 1))),
            func.count(case((Subscriber.c.tracking_consent.is_(True), 1))),
            func.count(case((Subscriber.c.paused_until.is_not(None), 1))),
        ).where(active)
    ).one()
    for measure, number in zip(("soft", "tracked", "paused"), row, strict=True):
        found[Key(0, "active", "", measure)] = number
    return found


def recipients(
    connection: Connection, issue_id: int, segments: Mapping[str, ColumnElement[bool]]
) -> Counter[Key]:
    """Return the recipients of an issue by domain and saved segment, and how many agreed to tracking."""
    tracked = func.count(case((Subscriber.c.tracking_consent.is_(True), 1)))
    ours = Delivery.c.issue_id == issue_id
    found: Counter[Key] = Counter()
    rows = connection.execute(
        select(Subscriber.c.domain, func.count(), tracked)
        .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
        .where(ours)
        .group_by(Subscriber.c.domain)
    ).all()
    names = _counted_names({domain: number for domain, number, _ in rows})
    for domain, number, agreed in rows:
        found[Key(issue_id, "domain", _counted_as(domain, names), "recipients")] += number
        found[Key(issue_id, "domain", _counted_as(domain, names), "tracked")] += agreed
    for name, condition in segments.items():
        number, agreed = connection.execute(
            select(func.count(), tracked)
            .select_from(Delivery)
            .join(Subscriber, Delivery.c.subscriber_id == Subscriber.c.id)
            .where(ours, condition)
        ).one()
        found[Key(issue_id, "segment", name, "recipients")] = number
        found[Key(issue_id, "segment", name, "tracked")] = agreed
    return found


def _counted_names(recipients_of: Mapping[str, int]) -> set[str]:
    """Return the largest domains, and the providers of other domains; none is about single people."""
    from mailer.replies.mailbox_hosts import OTHER as UNKNOWN

    largest = sorted(recipients_of, key=lambda domain: (-recipients_of[domain], domain))[:_MOST_DOMAINS]
    names = {domain for domain in largest if recipients_of[domain] >= _FEWEST_RECIPIENTS}
    with_provider: Counter[str] = Counter()
    for domain in recipients_of.keys() - names:
        with_provider[_known_provider(domain)] += recipients_of[domain]
    del with_provider[UNKNOWN]
    return names | {name for name, number in with_provider.items() if number >= _FEWEST_RECIPIENTS}


def _counted_as(domain: str, names: Collection[str]) -> str:
    """Return the name under which a domain is counted: its own, that of its provider, or `OTHER`."""
    return next((name for name in (domain, _known_provider(domain)) if name in names), OTHER)


def _known_provider(domain: str) -> str:
    # Imported on use: the judge of replies comes along, and commands that read count nothing.
    from mailer.replies.mailbox_hosts import known_provider

    return known_provider(domain)


SENDING: Final = ("books", "sent", "failed", "failed_domain", "reports")
"""The facets that `sending` returns."""


def sending(connection: Connection, issue_id: int, domains: Collection[str]) -> Counter[Key]:
    """Return the facets about an issue's deliveries; `domains` are the names of domains that are counted."""
    found: Counter[Key] = Counter()
    # Not GROUP BY: SQLite would sort a million rows in memory for it.
    counts = [func.count(case((Delivery.c.state == state.value, 1))) for state in DeliveryState]
    numbers = connection.execute(select(*counts).where(Delivery.c.issue_id == issue_id)).one()
    for state, number in zip(DeliveryState, numbers, strict=True):
        found[Key(issue_id, "books", "", state.value)] = number
    hours = connection.execute(
        select(_per(Delivery.c.changed_at, HOUR).label("in_hour"), func.count())
        .where(
            Delivery.c.issue_id == issue_id,
            Delivery.c.state == DeliveryState.SENT.value,
            Delivery.c.changed_at.is_not(None),
        )
        .group_by("in_hour")
    )
    for hour, number in hours:
        found[Key(issue_id, "sent", hour_name(hour), "sent")] = number
    failed = and_(Delivery.c.issue_id == issue_id, Delivery.c.state == literal_column("'failed'"))
    for name, number in connection.execute(
        select(Delivery.c.bounce_class, func.count()).where(failed).group_by(Delivery.c.bounce_class)
    ):
        found[Key(issue_id, "failed", name or "", "failed")] = number
    for domain, number in connection.execute(
        select(Subscriber.c.domain, func.count())
        .join(Delivery, Delivery.c.subscriber_id == Subscriber.c.id)
        .where(failed)
        .group_by(Subscriber.c.domain)
    ):
        found[Key(issue_id, "failed_domain", _counted_as(domain, domains), "failed")] += number
    complaints = connection.scalar(
        select(func.count()).where(StoredReport.c.issue_id == issue_id, StoredReport.c.kind == "complaint")
    )
    found[Key(issue_id, "reports", "", "complaints")] = complaints or 0
    return found


def responses(
    connection: Connection,
    issue_ids: Collection[int],
    *,
    after: int,
    upto: int,
    domains: Mapping[int, Collection[str]],
    segments: Mapping[str, ColumnElement[bool]],
) -> Counter[Key]:
    """Return what the events with ids above `after`, up to `upto`, add to the counts of these issues.

    A person counts once as an opener or clicker: not again if an event up to `after` already counts.
    `domains` are the names of each issue's domains that are counted.
    """
    # No condition on the issue: SQLite would read all events of the issues for it.
    new = and_(Event.c.id > after, Event.c.id <= upto, Event.c.kind.in_(list(_TIMES)))
    found = _times(connection, new)
    for issue_id, link, number in _first_clicks(connection, new, after):
        found[Key(issue_id, "link", str(link), "clickers")] += number
    firsts = _firsts(new, after)
    rows = connection.execute(
        select(
            firsts.c.issue_id, firsts.c.kind, Subscriber.c.domain, _delay(firsts).label("delay"), func.count()
        )
        .select_from(firsts)
        .join(Subscriber, Subscriber.c.id == firsts.c.subscriber_id)
        .outerjoin(
            Delivery,
            and_(
                Delivery.c.issue_id == firsts.c.issue_id, Delivery.c.subscriber_id == firsts.c.subscriber_id
            ),
        )
        .group_by(firsts.c.issue_id, firsts.c.kind, Subscriber.c.domain, "delay")
    )
    for issue_id, kind, domain, delay, number in rows:
        name = _counted_as(domain, domains.get(issue_id, ()))
        found[Key(issue_id, "domain", name, _PEOPLE[kind])] += number
        found[Key(issue_id, "delay", str(delay), _PEOPLE[kind])] += number
    for name, condition in segments.items():
        rows = connection.execute(
            select(firsts.c.issue_id, firsts.c.kind, func.count())
            .select_from(firsts)
            .join(Subscriber, Subscriber.c.id == firsts.c.subscriber_id)
            .where(condition)
            .group_by(firsts.c.issue_id, firsts.c.kind)
        )
        for issue_id, kind, number in rows:
            found[Key(issue_id, "segment", name, _PEOPLE[kind])] += number
    return Counter({key: number for key, number in found.items() if key.issue_id in issue_ids})


def _times(connection: Connection, new: ColumnElement[bool]) -> Counter[Key]:
    """Return how often the issue and its links were opened and clicked, by people and by machines."""
    machine = case((_by_a_person(Event), 0), else_=1).label("by_machine")
    rows = connection.execute(
        select(
            Event.c.issue_id,
            Event.c.kind,
            machine,
            _per(Event.c.at, HOUR).label("in_hour"),
            _link(Event).label("place"),
            func.count(),
        )
        .where(new)
        .group_by(Event.c.issue_id, Event.c.kind, "by_machine", "in_hour", "place")
    )
    found: Counter[Key] = Counter()
    for issue_id, kind, by_machine, hour, place, number in rows:
        if issue_id is None:
            continue
        measure = f"machine_{_TIMES[kind]}" if by_machine else _TIMES[kind]
        found[Key(issue_id, "hour", hour_name(hour), measure)] += number
        if kind == "click" and place is not None:
            found[Key(issue_id, "link", str(place), measure)] += number
    return found


def _firsts(new: ColumnElement[bool], after: int) -> Subquery:
    """Return each person's first open and first click of an issue, unless an earlier one was counted."""
    earlier = Event.alias()
    counted = exists().where(
        earlier.c.subscriber_id == Event.c.subscriber_id,
        earlier.c.issue_id == Event.c.issue_id,
        earlier.c.kind == Event.c.kind,
        earlier.c.id <= after,
        _by_a_person(earlier),
    )
    return (
        select(
            Event.c.issue_id, Event.c.kind, Event.c.subscriber_id, func.min(_integer(Event.c.at)).label("at")
        )
        .where(new, Event.c.subscriber_id.is_not(None), _by_a_person(Event), ~counted)
        .group_by(Event.c.issue_id, Event.c.kind, Event.c.subscriber_id)
        .subquery()
    )


def _first_clicks(connection: Connection, new: ColumnElement[bool], after: int) -> Iterable[Any]:
    """Return how many people clicked on each link for the first time."""
    earlier = Event.alias()
    counted = exists().where(
        earlier.c.subscriber_id == Event.c.subscriber_id,
        earlier.c.issue_id == Event.c.issue_id,
        earlier.c.kind == "click",
        earlier.c.id <= after,
        _by_a_person(earlier),
        _link(earlier) == _link(Event),
    )
    clicks = (
        select(Event.c.issue_id, _link(Event).label("place"), Event.c.subscriber_id)
        .where(
            new, Event.c.kind == "click", Event.c.subscriber_id.is_not(None), _by_a_person(Event), ~counted
        )
        .distinct()
        .subquery()
    )
    return connection.execute(
        select(clicks.c.issue_id, clicks.c.place, func.count())
        .where(clicks.c.place.is_not(None))
        .group_by(clicks.c.issue_id, clicks.c.place)
    )


def _delay(firsts: Subquery) -> ColumnElement[int]:
    """Return the number of the interval between the message and the event; -1 if it was not sent.

    The first attempt counts: unlike `changed_at`, it stays the same if the message bounces later.
    """
    passed = firsts.c.at - _integer(Delivery.c.first_at)
    limits = [
        (passed < _number(limit // timedelta(microseconds=1)), _number(place))
        for place, limit in enumerate(DELAYS)
    ]
    return case((Delivery.c.first_at.is_(None), _number(-1)), *limits, else_=_number(len(DELAYS)))


def _by_a_person(event: FromClause) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = event.c.details["machine"].as_string().is_(None)
    return condition


def _link(event: FromClause) -> ColumnElement[int]:
    place: ColumnElement[int] = event.c.details["link"].as_integer()
    return place
