"""The breaker for reports: when nearly all of an issue comes back with one reply, the reply is about us.

`mailer.delivery.breaker` sees the answers of one run, one after the other. Reports arrive over days and in
several processes, so this one keeps nothing in memory. After each batch of reports it compares what came
back with what was delivered, for the whole issue and for each domain in the batch.

A hard bounce still suppresses immediately, but provisionally: when the pattern shows, everybody who was
suppressed over it is restored, with the reason in the ledger. Holding suppressions back instead would keep
dead addresses on the list of every issue that has only a few bounces, since nothing tells when the last
report has come. An alert remembers the reply; later reports on the issue that quote it suppress nobody.

Deliveries stay `failed`, so `mailer retry ISSUE --only failed` sends them again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Select, and_, func, literal_column, or_, select
from sqlalchemy.orm import Session

from mailer.audience.corrections import bounced_ids, restore
from mailer.bounces.effects import forget_soft_bounces
from mailer.database.among import among
from mailer.database.models import (
    ALERT,
    CanaryState,
    Delivery,
    DeliveryState,
    Event,
    IssueState,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
)
from mailer.database.session import Database
from mailer.replies import Verdict, fingerprint, fingerprint_of

ONE_REPLY: Final = "one reply"
"""What an alert of this breaker is of."""
ENOUGH: Final = 18
"""How many equal replies trip the breaker, if they are nearly all."""
NEARLY_ALL: Final = 0.9
FEW: Final = 5
"""How many are enough for a whole issue of which nothing else came of any delivery."""

_SAMPLE: Final = 1_000
_WHOLE: Final = ""
"""The place of an alert about a whole issue; otherwise it is a domain."""
# A literal and a bound, because SQLite uses the partial index of failed deliveries only for these.
_FAILED: Final = (Delivery.state == literal_column("'failed'"), Delivery.bounce_class > "")
# The sum keeps SQLite from reading all deliveries of an issue to find those to one domain.
_BY_DOMAIN: Final = Delivery.subscriber_id == Subscriber.id + 0
_LOCK: Final = (
    select(Subscriber.id)
    .where(
        among(Subscriber.id, "ids"),
        or_(Subscriber.status == SubscriberStatus.BOUNCED.value, Subscriber.soft_points > 0),
    )
    .order_by(Subscriber.id)
    .with_for_update()
)
_log = logging.getLogger(__name__)


class _Failed(NamedTuple):
    """A delivery that failed."""

    subscriber_id: int
    address: str
    code: int | None
    enhanced: str | None
    reply: str | None

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.code, self.enhanced or "", self.reply or "", self.address)

    def __str__(self) -> str:
        reply = self.reply or ""
        if reply.startswith(str(self.code)):
            return reply
        return " ".join(filter(None, (str(self.code or ""), self.enhanced, reply)))


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One reply that nearly all deliveries to a place came back with."""

    place: str
    key: str
    alike: Sequence[_Failed]
    total: int
    """How many were delivered to that place or failed."""


def is_about_us(session: Session, issue_id: int, subscriber_id: int, verdict: Verdict) -> bool:
    """Return whether the breaker has tripped over this reply, or over the one that is written down."""
    tripped = _tripped(session, issue_id)
    if not tripped:
        return False
    person = session.execute(
        select(Subscriber.address, Subscriber.domain, Delivery.code, Delivery.enhanced, Delivery.reply)
        .outerjoin(Delivery, and_(Delivery.issue_id == issue_id, Delivery.subscriber_id == Subscriber.id))
        .where(Subscriber.id == subscriber_id)
    ).one()
    stored = _Failed(subscriber_id, person.address, person.code, person.enhanced, person.reply)
    keys = {fingerprint(verdict, person.address), stored.fingerprint}
    return any((place, key) in tripped for place in (_WHOLE, person.domain) for key in keys)


def check(database: Database, reported: Mapping[int, Collection[int]], *, at: datetime) -> list[str]:
    """Undo what the latest reports did if they show one reply for nearly all; return the new alerts.

    `reported` holds the subscribers that reports were about, by issue. Runs in transactions of its own:
    restoring people locks many rows in their order, which a transaction that holds some already may not.
    """
    alerts: list[str] = []
    for issue_id, subscriber_ids in reported.items():
        with database.reading() as session:
            patterns = _patterns(session, issue_id, subscriber_ids)
        for pattern in patterns:
            with database.transaction() as session:
                alerts += _trip(session, issue_id, pattern, at)
    for text in alerts:
        _log.warning("%s", text)
    return alerts


def _patterns(session: Session, issue_id: int, subscriber_ids: Collection[int]) -> list[_Pattern]:
    counted = select(func.count()).select_from(Delivery).where(Delivery.issue_id == issue_id, *_FAILED)
    failed = session.scalar(counted) or 0
    if failed < FEW:
        return []
    if whole := _pattern(session, issue_id, _WHOLE, failed):
        return [whole]
    if failed < ENOUGH:
        return []
    domains = session.scalars(
        select(Subscriber.domain).distinct().where(among(Subscriber.id, "ids")),
        {"ids": sorted(subscriber_ids)},
    )
    found = [_pattern(session, issue_id, domain, failed) for domain in sorted(domains)]
    return [pattern for pattern in found if pattern is not None]


def _pattern(session: Session, issue_id: int, place: str, failed_at_most: int) -> _Pattern | None:
    """Return the reply that nearly all deliveries to a place came back with, if there is one.

    Most places take nearly everything: reading stops as soon as more was delivered than could be passed
    over. Where nearly everything failed, a sample comes before the whole.
    """
    bound = int(failed_at_most / NEARLY_ALL) - failed_at_most + 1
    sent = len(session.execute(_sent(issue_id, place).limit(bound)).all())
    if sent == bound:
        return None
    failed = _failed(issue_id, place)
    sample = [_Failed(*row) for row in session.execute(failed.limit(_SAMPLE))]
    if not sample or _commonest(sample)[1] < NEARLY_ALL * len(sample):
        return None
    rows = sample if len(sample) < _SAMPLE else [_Failed(*row) for row in session.execute(failed)]
    key, number = _commonest(rows)
    total = sent + len(rows)
    all_of_few = place == _WHOLE and number == total >= FEW
    if not all_of_few and (number < ENOUGH or number < NEARLY_ALL * total):
        return None
    return _Pattern(place, key, sorted(row for row in rows if row.fingerprint == key), total)


def _commonest(rows: Sequence[_Failed]) -> tuple[str, int]:
    ((key, number),) = Counter(row.fingerprint for row in rows).most_common(1)
    return key, number


def _sent(issue_id: int, place: str) -> Select[int]:
    sent = select(Delivery.subscriber_id).where(
        Delivery.issue_id == issue_id, Delivery.state == DeliveryState.SENT.value
    )
    if place == _WHOLE:
        return sent
    return sent.join(Subscriber, _BY_DOMAIN).where(Subscriber.domain == place)


def _failed(issue_id: int, place: str) -> Select[int, str, int | None, str | None, str | None]:
    failed = select(
        Delivery.subscriber_id, Subscriber.address, Delivery.code, Delivery.enhanced, Delivery.reply
    ).where(Delivery.issue_id == issue_id)
    if place == _WHOLE:
        return failed.where(*_FAILED).join(Subscriber, Subscriber.id == Delivery.subscriber_id)
    # Here the index of failed deliveries would be the longer way.
    state = and_(Delivery.state == DeliveryState.FAILED.value, Delivery.bounce_class.is_not(None))
    return failed.where(state).join(Subscriber, _BY_DOMAIN).where(Subscriber.domain == place)


def _trip(session: Session, issue_id: int, pattern: _Pattern, at: datetime) -> list[str]:
    """Undo what followed from the pattern's reports; if it is new, pause the issue and write an alert.

    People are locked before the issue, as a run does.
    """
    ids = sorted(row.subscriber_id for row in pattern.alike)
    session.execute(_LOCK, {"ids": ids})
    to = f" to {pattern.place}" if pattern.place else ""
    reason = (
        f"{len(ids):,} of {pattern.total:,} messages{to} came back with one reply,"
        f" so it is taken to be about us and nobody is suppressed for it: {pattern.alike[0]}"
    )
    alike = set(ids)
    suppressed = [one for one in bounced_ids(session, issue_id=issue_id) if one in alike]
    restored = restore(session, suppressed, reason=reason, at=at)
    forget_soft_bounces(session, issue_id, ids)
    issue = session.get_one(StoredIssue, issue_id, with_for_update=True)
    if (pattern.place, pattern.key) in _tripped(session, issue_id):
        return []
    commands = f"mailer retry {issue.slug} --only failed && mailer send {issue.slug}"
    if issue.state in (IssueState.SENDING.value, IssueState.PAUSED.value):
        commands = commands.replace(" && ", f" && mailer resume {issue.slug} && ")
    told = f"{reason}; once the cause is fixed: {commands}"
    _pause(issue, told)
    text = f"{issue.slug}: {told}"
    details = {
        "of": ONE_REPLY,
        "count": len(ids),
        "settled": pattern.total,
        "restored": sum(one.status is not None for one in restored),
        "place": pattern.place,
        "reply": pattern.key,
        "text": text,
    }
    session.add(Event(at=at, kind=ALERT, issue_id=issue_id, details=details))
    return [text]


def _pause(issue: StoredIssue, reason: str) -> None:
    """Pause an issue that is being sent. A canary that waits for reports begins again when it is resumed."""
    if issue.state != IssueState.SENDING.value:
        return
    issue.state, issue.reason = IssueState.PAUSED.value, reason
    if issue.canary == CanaryState.WAITING.value:
        issue.canary, issue.canary_until = CanaryState.SENDING.value, None


def _tripped(session: Session, issue_id: int) -> set[tuple[str, str]]:
    """Return the places and fingerprints over which the breaker has tripped for an issue."""
    alerts = session.scalars(select(Event.details).where(Event.issue_id == issue_id, Event.kind == ALERT))
    return {(one["place"], one["reply"]) for one in alerts if one.get("of") == ONE_REPLY}
