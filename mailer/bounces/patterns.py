"""Patterns among an issue's failed deliveries: one reply to nearly everybody, for all or for one provider.

A fault on our side may affect all mailboxes, those of one domain, or those behind one mail host that serves
many domains, and it may begin in the middle of an issue. So each place is examined as a whole, and from its
last failed delivery backwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, Select, and_, distinct, func, literal_column, or_, select

from mailer.bounces.hosts import host_group
from mailer.database.among import among
from mailer.database.tables import Delivery, DeliveryState, StoredReport, Subscriber
from mailer.replies import fingerprint_of

ENOUGH: Final = 18
"""How many equal replies make a pattern, if they are nearly all."""
NEARLY_ALL: Final = 0.9
FEW: Final = 5
"""How many are enough for a whole issue if no delivery ended in any other way."""
LATEST_ENOUGH: Final = 28
"""How many equal replies to the latest deliveries make a pattern, whatever happened to earlier ones."""
LATEST_NEARLY_ALL: Final = 0.95
# A report on a message that was sent just now may still come.
_LAG: Final = timedelta(minutes=15)
_SAMPLE: Final = 1_000
_MOST_DOMAINS: Final = 500
# A literal and a bound, because SQLite uses the partial index of failed deliveries only for these.
_FAILED: Final = (Delivery.c.state == literal_column("'failed'"), Delivery.c.bounce_class > "")
# The sum keeps SQLite from reading all deliveries of an issue to find those to one domain.
_BY_DOMAIN: Final = Delivery.c.subscriber_id == Subscriber.c.id + 0


class Failed(NamedTuple):
    """A delivery that failed."""

    subscriber_id: int
    address: str
    code: int | None
    enhanced: str | None
    reply: str | None

    @property
    def fingerprint(self) -> str:
        """The reply without what differs between recipients."""
        return fingerprint_of(self.code, self.enhanced or "", self.reply or "", self.address)

    @property
    def domain(self) -> str:
        """The domain of the address."""
        return self.address.rpartition("@")[2].lower()

    def __str__(self) -> str:
        reply = self.reply or ""
        if reply.startswith(str(self.code)):
            return reply
        return " ".join(filter(None, (str(self.code or ""), self.enhanced, reply)))


class _Reported(NamedTuple):
    """A delivery about which a report came."""

    subscriber_id: int
    domain: str
    host: str
    """The mail host that refused it, as `host_group` returns it."""


class _Sent(NamedTuple):
    subscriber_id: int
    changed_at: datetime | None
    domain: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where messages went: everywhere, to one domain, or to the domains behind one mail host."""

    name: str = ""
    domains: tuple[str, ...] = ()
    behind_host: bool = False

    def __str__(self) -> str:
        if self.behind_host:
            return f" to mailboxes at {self.name}"
        return f" to {self.name}" if self.name else ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One reply that nearly all deliveries to a place came back with."""

    place: Place
    key: str
    alike: Sequence[Failed]
    count: int
    """How many of the `total` came back with this reply."""
    total: int
    """How many were delivered to that place or failed; if `latest`, since the reply began."""
    latest: bool = False

    @property
    def example(self) -> Failed:
        """The first delivery that came back with this reply."""
        return min(self.alike)


def find_patterns(
    connection: Connection, issue_id: int, subscriber_ids: Collection[int], *, at: datetime
) -> list[Pattern]:
    """Return the patterns in an issue, its domains and its mail hosts; only those of these subscribers."""
    counted = select(func.count()).select_from(Delivery).where(Delivery.c.issue_id == issue_id, *_FAILED)
    failed = connection.scalar(counted) or 0
    if failed < FEW:
        return []
    reported = _newest_reported(connection, issue_id)
    if whole := _pattern(connection, issue_id, Place(), failed, reported, at):
        return [whole]
    if failed < ENOUGH:
        return []
    domains = connection.scalars(
        select(Subscriber.c.domain).distinct().where(among(Subscriber.c.id, "ids")),
        {"ids": sorted(subscriber_ids)},
    )
    places = [Place(domain, (domain,)) for domain in sorted(domains)]
    places += _behind_hosts(reported, subscriber_ids)
    found = [_pattern(connection, issue_id, place, failed, reported, at) for place in places]
    return [pattern for pattern in found if pattern is not None]


def _newest_reported(connection: Connection, issue_id: int) -> list[_Reported]:
    newest = (
        select(StoredReport.c.subscriber_id, Subscriber.c.domain, StoredReport.c.details)
        .join(Subscriber, Subscriber.c.id == StoredReport.c.subscriber_id)
        .where(StoredReport.c.issue_id == issue_id, StoredReport.c.kind == "bounce")
        .order_by(StoredReport.c.id.desc())
        .limit(_SAMPLE)
    )
    return [
        _Reported(subscriber_id, domain, host_group(details.get("remote", "")))
        for subscriber_id, domain, details in connection.execute(newest)
        if subscriber_id is not None
    ]


def _behind_hosts(reported: Sequence[_Reported], subscriber_ids: Collection[int]) -> list[Place]:
    """Return the mail hosts of these subscribers, each with the domains that its reports were about."""
    domains: dict[str, dict[str, None]] = {}
    for one in reported:
        if one.host:
            domains.setdefault(one.host, {})[one.domain] = None
    wanted = {one.host for one in reported if one.host and one.subscriber_id in subscriber_ids}
    return [
        Place(host, tuple(domains[host])[:_MOST_DOMAINS], behind_host=True)
        for host in sorted(wanted)
        if len(domains[host]) > 1
    ]


def _pattern(
    connection: Connection,
    issue_id: int,
    place: Place,
    failed_at_most: int,
    reported: Sequence[_Reported],
    at: datetime,
) -> Pattern | None:
    """Return the reply that nearly all deliveries to a place came back with, if there is one.

    Most places accept nearly everything: reading stops as soon as too much was delivered for a pattern. Where
    nearly everything failed, a sample comes before the whole.
    """
    bound = int(failed_at_most / NEARLY_ALL) - failed_at_most + 1
    sent = [_Sent(*row) for row in connection.execute(_sent(issue_id, place).limit(bound))]
    latest = _may_be_latest(connection, issue_id, place, reported, at)
    if len(sent) == bound and not latest:
        return None
    newest_first = _failed(issue_id, place).order_by(Delivery.c.subscriber_id.desc())
    rows = [Failed(*row) for row in connection.execute(newest_first.limit(_SAMPLE))]
    if not rows:
        return None
    found = None
    key, number = _commonest(rows)
    if len(sent) < bound and number >= NEARLY_ALL * len(rows):
        if len(rows) == _SAMPLE:
            rows = [Failed(*row) for row in connection.execute(newest_first)]
        alike = [row for row in rows if row.fingerprint == key]
        total = len(sent) + len(rows)
        all_of_few = not place.name and len(alike) == total >= FEW
        if all_of_few or (len(alike) >= ENOUGH and len(alike) >= NEARLY_ALL * total):
            found = Pattern(place, key, alike, len(alike), total)
    if latest and not found:
        found = _latest(connection, issue_id, place, rows, at)
    if found and place.behind_host and not _is_shown(connection, issue_id, found, sent):
        return None
    return found


def _may_be_latest(
    connection: Connection, issue_id: int, place: Place, reported: Sequence[_Reported], at: datetime
) -> bool:
    """Return whether few messages to a place were accepted since some of its last failed deliveries.

    This is cheap, because it reads no more than a few rows of a place where most is accepted.
    """
    failed = {one.subscriber_id for one in reported if not place.domains or one.domain in place.domains}
    if len(failed) < LATEST_ENOUGH:
        return False
    newest = sorted(failed, reverse=True)[:LATEST_ENOUGH]
    settled = or_(
        Delivery.c.subscriber_id < newest[0],
        Delivery.c.changed_at.is_(None),
        Delivery.c.changed_at <= at - _LAG,
    )
    accepted = (
        _sent(issue_id, place)
        .where(Delivery.c.subscriber_id > newest[-1], settled)
        .order_by(Delivery.c.subscriber_id)
        .limit(LATEST_ENOUGH + 1)
    )
    return len(connection.execute(accepted).all()) <= LATEST_ENOUGH


def _latest(
    connection: Connection, issue_id: int, place: Place, rows: Sequence[Failed], at: datetime
) -> Pattern | None:
    """Return the reply that nearly all of the latest deliveries to a place came back with, if there is one.

    Deliveries are claimed in the order of their subscribers, so that is the order in which they were sent.
    """
    key, number = _commonest(rows[:LATEST_ENOUGH])
    if number < LATEST_NEARLY_ALL * LATEST_ENOUGH:
        return None
    bound = int(len(rows) / LATEST_NEARLY_ALL) - len(rows) + 2
    since = _sent(issue_id, place).where(Delivery.c.subscriber_id > rows[-1].subscriber_id)
    newest_first = since.order_by(Delivery.c.subscriber_id.desc())
    last = rows[0].subscriber_id
    # More than a batch is in flight at most; the rest of the newest must be failures.
    sent = [
        one
        for one in (_Sent(*row) for row in connection.execute(newest_first.limit(_SAMPLE + bound)))
        if one.subscriber_id < last or one.changed_at is None or one.changed_at <= at - _LAG
    ]
    outcomes = sorted(
        [(row.subscriber_id, row.fingerprint == key) for row in rows]
        + [(one.subscriber_id, False) for one in sent],
        reverse=True,
    )
    alike = count = total = 0
    for place_in_order, (_, same) in enumerate(outcomes, start=1):
        alike += same
        if same and alike >= LATEST_ENOUGH and alike >= LATEST_NEARLY_ALL * place_in_order:
            count, total = alike, place_in_order
    if not total:
        return None
    return Pattern(place, key, [row for row in rows if row.fingerprint == key], count, total, latest=True)


def _is_shown(connection: Connection, issue_id: int, pattern: Pattern, sent: Iterable[_Sent]) -> bool:
    """Return whether enough of the people behind a mail host show that it refuses us.

    A report names its host, a delivery does not. A domain with one reader therefore only occurs where that
    reader's mail came back, which shows nothing unless the same reader got an earlier issue.
    """
    readers = Counter([row.domain for row in pattern.alike] + [one.domain for one in sent])
    alone = [row.subscriber_id for row in pattern.alike if readers[row.domain] == 1]
    shown = len(pattern.alike) - len(alone)
    if shown < ENOUGH and alone:
        earlier = select(func.count(distinct(Delivery.c.subscriber_id))).where(
            among(Delivery.c.subscriber_id, "ids"),
            Delivery.c.issue_id < issue_id,
            Delivery.c.state == DeliveryState.SENT.value,
        )
        shown += connection.scalar(earlier, {"ids": sorted(alone)}) or 0
    return shown >= ENOUGH


def _commonest(rows: Sequence[Failed]) -> tuple[str, int]:
    ((key, number),) = Counter(row.fingerprint for row in rows).most_common(1)
    return key, number


def _sent(issue_id: int, place: Place) -> Select[int, datetime | None, str]:
    sent = select(Delivery.c.subscriber_id, Delivery.c.changed_at, Subscriber.c.domain).where(
        Delivery.c.issue_id == issue_id, Delivery.c.state == DeliveryState.SENT.value
    )
    if not place.domains:
        return sent.join(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
    return sent.join(Subscriber, _BY_DOMAIN).where(Subscriber.c.domain.in_(place.domains))


def _failed(issue_id: int, place: Place) -> Select[int, str, int | None, str | None, str | None]:
    failed = select(
        Delivery.c.subscriber_id, Subscriber.c.address, Delivery.c.code, Delivery.c.enhanced, Delivery.c.reply
    ).where(Delivery.c.issue_id == issue_id)
    if not place.domains:
        return failed.where(*_FAILED).join(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
    # Here the index of failed deliveries would be slower.
    state = and_(Delivery.c.state == DeliveryState.FAILED.value, Delivery.c.bounce_class.is_not(None))
    return failed.where(state).join(Subscriber, _BY_DOMAIN).where(Subscriber.c.domain.in_(place.domains))
