"""Forecasting a send: the recipients, everyone left out and why, message sizes and duration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, case, exists, false, func, literal, or_, select

from mailer.config import ProviderLimits, Settings
from mailer.database.engine import Database
from mailer.database.tables import (
    Delivery,
    DeliveryState,
    Subscriber,
    SubscriberStatus,
    Suppression,
)
from mailer.delivery import control, editions, enqueueing, issues
from mailer.delivery.books import Books, books_of
from mailer.delivery.clock import now
from mailer.delivery.issues import QueuedIssue, audience
from mailer.delivery.local_time import Wave
from mailer.delivery.recipients import recipient_of, tags_of
from mailer.delivery.relays import WarmingUp, last_day, limited, warming_up
from mailer.errors import RecipientError
from mailer.rendering.edition import Edition
from mailer.rendering.recipient import Recipient
from mailer.review.estimate import REPLY_SECONDS, Estimate, estimate
from mailer.review.waves import waves_of

if TYPE_CHECKING:
    from mailer.rendering.message import Composer

_MAILED: Final = ""
OUTSIDE: Final = "outside the segment"
PAUSED: Final = "paused by themselves"
SUPPRESSED: Final = "suppressed address"
_OPEN: Final = [
    DeliveryState.QUEUED.value,
    DeliveryState.SENDING.value,
    DeliveryState.DEFERRED.value,
    DeliveryState.UNCERTAIN.value,
]


class Headcount(Struct, frozen=True):
    """How many subscribers get an issue, and how many do not."""

    mailed: int
    left_out: Mapping[str, int]
    """Number by reason; each subscriber counts once, for the first reason that applies."""

    @property
    def subscribers(self) -> int:
        """How many subscribers there are in all."""
        return self.mailed + sum(self.left_out.values())


class Domains(Struct, frozen=True):
    """The domains that an issue goes to."""

    count: int
    top: tuple[tuple[str, int], ...]
    """The largest first."""
    by_provider: Mapping[str, int]
    """Number of recipients by configured provider."""


class Sizes(Struct, frozen=True):
    """Message sizes for a sample of the audience, in octets, signed like the real ones."""

    sampled: int
    mean: int
    largest: int
    unfit: tuple[str, ...]
    """The errors of messages that could not be composed."""


class Plan(Struct, frozen=True):
    """The plan that `send` would follow."""

    slug: str
    subject: str
    audience: int
    """The number of recipients; frozen once the issue is queued."""
    known: QueuedIssue | None
    """The issue in the queue, if it is queued already."""


class Forecast(Plan, frozen=True):
    """A plan in detail."""

    books: Books | None
    """The books of a queued issue."""
    headcount: Headcount
    to_send: int
    domains: Domains
    sizes: Sizes
    estimate: Estimate | None
    """None if no relay is configured."""
    reply_seconds: float
    warming_up: tuple[WarmingUp, ...] = ()
    """The relays whose warm-up limits them today."""
    waves: tuple[Wave, ...] = ()
    """Who gets it when, if it is scheduled by local time."""
    last_day: date | None = None
    """When the last message can leave, if all relays warm up and today does not suffice."""

    def as_dict(self) -> dict[str, object]:
        """Return the forecast as `mailer plan --json` prints it."""
        return {
            "issue": self.slug,
            "subject": self.subject,
            "state": self.known.state.value if self.known else None,
            "subscribers": self.headcount.subscribers,
            "audience": self.books.audience if self.books else self.headcount.mailed,
            "left_out": dict(self.headcount.left_out) if self.books is None else {},
            "books": self.books.as_dict() if self.books else None,
            "to_send": self.to_send,
            "domains": {
                "count": self.domains.count,
                "top": [{"domain": domain, "messages": number} for domain, number in self.domains.top],
                "by_provider": dict(self.domains.by_provider),
            },
            "sizes": {
                "sampled": self.sizes.sampled,
                "mean_octets": self.sizes.mean,
                "largest_octets": self.sizes.largest,
                "total_octets": self.sizes.mean * self.to_send,
                "unfit": list(self.sizes.unfit),
            },
            "estimate": None
            if self.estimate is None
            else {
                "seconds": round(self.estimate.duration.total_seconds(), 1),
                "per_second": round(self.estimate.per_second, 1),
                "bottleneck": self.estimate.bottleneck,
                "reply_seconds": self.reply_seconds,
            },
            "warmup": [
                {"relay": one.name, "today": one.today, "tomorrow": one.tomorrow} for one in self.warming_up
            ],
            "waves": [wave.as_dict() for wave in self.waves],
            "last_day": self.last_day and self.last_day.isoformat(),
        }


def plan(settings: Settings, database: Database, edition: Edition, segment: str) -> Plan:
    """Return the plan of a send; it only counts, so it is quick for any audience."""
    condition = enqueueing.audience_condition(settings, segment)
    with database.reading() as connection:
        known = issues.find(connection, edition.slug)
        if known is not None:
            number = books_of(connection, known.id).audience
        else:
            _, condition = issues.narrowed(connection, edition, segment, condition)
            number = issues.count_audience(connection, condition, at=now())
    return Plan(edition.slug, edition.subject, number, known)


def forecast(
    settings: Settings,
    database: Database,
    edition: Edition,
    segment: str,
    *,
    reply_seconds: float = REPLY_SECONDS,
) -> Forecast:
    """Return in detail what `send` would do, without changing anything."""
    at, condition = now(), enqueueing.audience_condition(settings, segment)
    with database.reading() as connection:
        known = issues.find(connection, edition.slug)
        if known is None:
            _, condition = issues.narrowed(connection, edition, segment, condition)
        people = headcount(connection, condition, at=at)
        if known is None:
            books, who, to_send = None, audience(condition, at=at), people.mailed
        else:
            books, who = books_of(connection, known.id), still_open(known.id)
            edition, to_send = issues.edition(connection, known.edition_digest), books.open
        made = editions.composer(
            settings,
            edition,
            known.id if known else editions.ANY_ISSUE,
            editions.POWERLESS,
            public=known.public if known else not segment,
        )
        waves = waves_of(connection, settings, edition.slug, at=at)
        where = domains(connection, who, settings.providers)
        measured = sizes(connection, who, made, at=at)
    duration = None
    if settings.relays:
        duration = estimate(
            to_send,
            where.by_provider,
            {name: limited(relay, at.date()) for name, relay in settings.relays.items()},
            settings.providers,
            reply_seconds=reply_seconds,
        )
    return Forecast(
        edition.slug,
        edition.subject,
        books.audience if books else people.mailed,
        known,
        books,
        people,
        to_send,
        where,
        measured,
        duration,
        reply_seconds,
        tuple(warming_up(settings, at.date())),
        tuple(waves),
        last_day(settings, to_send, at.date()),
    )


def headcount(connection: Connection, condition: ColumnElement[bool] | None, *, at: datetime) -> Headcount:
    """Count the subscribers who would be mailed, and the others by reason, in one pass."""
    reasons = [
        (Subscriber.c.status != SubscriberStatus.ACTIVE.value, Subscriber.c.status),
        (exists().where(Suppression.c.address_key == Subscriber.c.address_key), literal(SUPPRESSED)),
        (Subscriber.c.paused_until > at, literal(PAUSED)),
    ]
    if condition is not None:
        reasons.append((func.coalesce(condition, false()).is_(False), literal(OUTSIDE)))
    reason = case(*reasons, else_=literal(_MAILED)).label("reason")
    labelled = select(reason).subquery()
    counted = select(labelled.c.reason, func.count()).group_by(labelled.c.reason)
    found = {str(row[0]): int(row[1]) for row in connection.execute(counted)}
    mailed = found.pop(_MAILED, 0)
    return Headcount(mailed, dict(sorted(found.items(), key=lambda item: -item[1])))


def still_open(issue_id: int) -> ColumnElement[bool]:
    """Return the condition that selects subscribers who do not have a queued issue yet.

    Their delivery is open, or it failed because it could not be composed.
    """
    return exists().where(
        Delivery.c.issue_id == issue_id,
        Delivery.c.subscriber_id == Subscriber.c.id,
        or_(Delivery.c.state.in_(_OPEN), control.uncomposed()),
    )


def domains(
    connection: Connection,
    who: ColumnElement[bool],
    providers: Mapping[str, ProviderLimits],
    *,
    top: int = 10,
) -> Domains:
    """Count the domains of these subscribers, and how many belong to each provider."""
    largest = (
        select(Subscriber.c.domain, func.count())
        .where(who)
        .group_by(Subscriber.c.domain)
        .order_by(func.count().desc(), Subscriber.c.domain)
        .limit(top)
    )
    number = connection.scalar(select(func.count(Subscriber.c.domain.distinct())).where(who)) or 0
    shares = {}
    for name, provider in providers.items():
        of_provider = select(func.count()).select_from(Subscriber).where(who)
        shares[name] = connection.scalar(of_provider.where(Subscriber.c.domain.in_(provider.domains))) or 0
    return Domains(number, tuple((str(row[0]), int(row[1])) for row in connection.execute(largest)), shares)


def sizes(
    connection: Connection, who: ColumnElement[bool], composer: Composer, *, at: datetime, sample: int = 100
) -> Sizes:
    """Compose the issue for some of the first and last subscribers, and measure it."""
    octets: list[int] = []
    unfit: list[str] = []
    for recipient in _some(connection, who, sample):
        try:
            octets.append(len(composer.compose(recipient, at).content))
        except RecipientError as error:
            unfit.append(str(error))
    return Sizes(
        len(octets) + len(unfit),
        round(sum(octets) / len(octets)) if octets else 0,
        max(octets, default=0),
        tuple(unfit),
    )


def _some(connection: Connection, who: ColumnElement[bool], number: int) -> list[Recipient]:
    chosen = set()
    for order in (Subscriber.c.id, Subscriber.c.id.desc()):
        chosen |= set(
            connection.scalars(select(Subscriber.c.id).where(who).order_by(order).limit(number // 2))
        )
    tags = tags_of(connection, chosen)
    people = select(Subscriber.c.id, Subscriber.c.address, Subscriber.c.name, Subscriber.c.attributes)
    rows = connection.execute(people.where(Subscriber.c.id.in_(chosen)).order_by(Subscriber.c.id))
    return [recipient_of(row.id, row, tags) for row in rows]
