"""What sending an issue would mean: to whom, to whom not and why, how large, how long. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, case, exists, false, func, literal, select
from sqlalchemy.orm import Session

from mailer.config import Provider, Settings
from mailer.database.models import (
    Delivery,
    DeliveryState,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    Suppression,
)
from mailer.database.session import Database
from mailer.delivery import dispatch, editions, issues, queue
from mailer.delivery.clock import now
from mailer.delivery.issues import QueuedIssue, audience
from mailer.delivery.queue import Books
from mailer.errors import RecipientError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Recipient
from mailer.review.estimate import REPLY_SECONDS, Estimate, estimate

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


@dataclass(frozen=True, slots=True)
class Headcount:
    """Who gets an issue and who does not; the two add up to all subscribers."""

    mailed: int
    left_out: Mapping[str, int]
    """Reason to number; each subscriber counts once, for the first reason that holds."""

    @property
    def subscribers(self) -> int:
        """How many there are in all."""
        return self.mailed + sum(self.left_out.values())


@dataclass(frozen=True, slots=True)
class Domains:
    """Where the mail goes."""

    count: int
    top: tuple[tuple[str, int], ...]
    """The largest first."""
    by_provider: Mapping[str, int]
    """Configured provider to number."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a sample of the audience would get, in octets, signed as it would be."""

    sampled: int
    mean: int
    largest: int
    unfit: tuple[str, ...]
    """Why some of the sample could not be composed."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What sending an issue would mean, now."""

    slug: str
    subject: str
    known: QueuedIssue | None
    books: Books | None
    """Of an issue in the queue, whose audience is frozen."""
    headcount: Headcount
    to_send: int
    domains: Domains
    sizes: Sizes
    estimate: Estimate | None
    """None where no relay is configured."""
    reply_seconds: float


def forecast(
    settings: Settings,
    database: Database,
    edition: Edition,
    segment: str,
    *,
    reply_seconds: float = REPLY_SECONDS,
) -> Forecast:
    """Look at everything that sending an issue would do; change nothing."""
    at, condition = now(), dispatch.audience_condition(settings, segment)
    with database.reading() as session:
        known = issues.find(session, edition.slug)
        people = headcount(session, condition, at=at)
        if known is None:
            books, who, to_send = None, audience(condition, at=at), people.mailed
        else:
            books, who = queue.books(session, known.id), still_open(known.id)
            edition, to_send = issues.edition(session, known.edition_digest), books.open
        made = editions.composer(
            settings, edition, known.id if known else editions.ANY_ISSUE, editions.POWERLESS
        )
        where = domains(session, who, settings.providers)
        measured = sizes(session, who, made, at=at)
    duration = None
    if settings.relays:
        duration = estimate(
            to_send, where.by_provider, settings.relays, settings.providers, reply_seconds=reply_seconds
        )
    return Forecast(
        edition.slug,
        edition.subject,
        known,
        books,
        people,
        to_send,
        where,
        measured,
        duration,
        reply_seconds,
    )


def headcount(session: Session, condition: ColumnElement[bool] | None, *, at: datetime) -> Headcount:
    """Count the subscribers by whether and why not they would be mailed: one pass."""
    reasons = [
        (Subscriber.status != SubscriberStatus.ACTIVE.value, Subscriber.status),
        (exists().where(Suppression.address_key == Subscriber.address_key), literal(SUPPRESSED)),
        (Subscriber.paused_until > at, literal(PAUSED)),
    ]
    if condition is not None:
        reasons.append((func.coalesce(condition, false()).is_(False), literal(OUTSIDE)))
    reason = case(*reasons, else_=literal(_MAILED)).label("reason")
    labelled = select(reason).subquery()
    counted = select(labelled.c.reason, func.count()).group_by(labelled.c.reason)
    found = {str(row[0]): int(row[1]) for row in session.execute(counted)}
    mailed = found.pop(_MAILED, 0)
    return Headcount(mailed, dict(sorted(found.items(), key=lambda item: -item[1])))


def still_open(issue_id: int) -> ColumnElement[bool]:
    """Return the condition under which a subscriber's delivery of a queued issue may still go out."""
    return exists().where(
        Delivery.issue_id == issue_id,
        Delivery.subscriber_id == Subscriber.id,
        Delivery.state.in_(_OPEN),
    )


def domains(
    session: Session, who: ColumnElement[bool], providers: Mapping[str, Provider], *, top: int = 10
) -> Domains:
    """Count the domains of the subscribers `who`, and those of each provider."""
    largest = (
        select(Subscriber.domain, func.count())
        .where(who)
        .group_by(Subscriber.domain)
        .order_by(func.count().desc(), Subscriber.domain)
        .limit(top)
    )
    number = session.scalar(select(func.count(Subscriber.domain.distinct())).where(who)) or 0
    shares = {}
    for name, provider in providers.items():
        of_provider = select(func.count()).select_from(Subscriber).where(who)
        shares[name] = session.scalar(of_provider.where(Subscriber.domain.in_(provider.domains))) or 0
    return Domains(number, tuple((str(row[0]), int(row[1])) for row in session.execute(largest)), shares)


def sizes(
    session: Session, who: ColumnElement[bool], composer: Composer, *, at: datetime, sample: int = 100
) -> Sizes:
    """Compose the issue for some subscribers, the first and the last ones, and measure it."""
    octets: list[int] = []
    unfit: list[str] = []
    for recipient in _some(session, who, sample):
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


def _some(session: Session, who: ColumnElement[bool], number: int) -> list[Recipient]:
    chosen = set()
    for order in (Subscriber.id, Subscriber.id.desc()):
        chosen |= set(session.scalars(select(Subscriber.id).where(who).order_by(order).limit(number // 2)))
    tags: dict[int, list[str]] = {}
    wanted = select(SubscriberTag.subscriber_id, SubscriberTag.tag)
    for subscriber_id, tag in session.execute(
        wanted.where(SubscriberTag.subscriber_id.in_(chosen)).order_by(SubscriberTag.tag)
    ):
        tags.setdefault(subscriber_id, []).append(tag)
    people = select(Subscriber).where(Subscriber.id.in_(chosen)).order_by(Subscriber.id)
    return [
        Recipient(one.id, one.address, one.name, one.attributes, tuple(tags.get(one.id, ())))
        for one in session.scalars(people)
    ]
