"""The breaker for reports: when nearly everything comes back with one reply, the reply is about us.

`mailer.delivery.breaker` sees the replies of one run, one after the other. Reports arrive over days and in
several processes, so this one keeps nothing in memory. After each batch of reports it searches the
deliveries for patterns: in the whole issue, at each domain, and at each mail host.

A hard bounce still suppresses immediately, but provisionally: when a pattern shows, everybody suppressed
for it is restored, with the reason in the ledger. Holding suppressions back instead would keep dead
addresses on the list after every issue with only a few bounces, since nobody knows when the last report has
come. An alert remembers the reply; later reports on the issue with that reply suppress nobody.

Deliveries stay `failed`, so `mailer retry ISSUE --only failed` sends them again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, insert, or_, select, update

from mailer.audience.corrections import bounced_ids, restore
from mailer.bounces.effects import forget_soft_bounces
from mailer.bounces.hosts import host_group
from mailer.bounces.patterns import Failed, Pattern, find_patterns
from mailer.database.among import among
from mailer.database.engine import Database
from mailer.database.tables import (
    ALERT,
    CanaryState,
    Delivery,
    Event,
    IssueState,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
)
from mailer.replies import Verdict, fingerprint

ONE_REPLY: Final = "one reply"
"""The `of` value of this breaker's alerts."""
_LOCK: Final = (
    select(Subscriber.c.id)
    .where(
        among(Subscriber.c.id, "ids"),
        or_(Subscriber.c.status == SubscriberStatus.BOUNCED.value, Subscriber.c.soft_points > 0),
    )
    .order_by(Subscriber.c.id)
    .with_for_update()
)
_log = logging.getLogger(__name__)


def is_about_us(
    connection: Connection, issue_id: int, subscriber_id: int, verdict: Verdict, *, host: str = ""
) -> bool:
    """Return whether the breaker has tripped over this reply of a host, or over the stored one."""
    tripped = _tripped(connection, issue_id)
    if not tripped:
        return False
    person = connection.execute(
        select(
            Subscriber.c.address, Subscriber.c.domain, Delivery.c.code, Delivery.c.enhanced, Delivery.c.reply
        )
        .outerjoin(
            Delivery, and_(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == Subscriber.c.id)
        )
        .where(Subscriber.c.id == subscriber_id)
    ).one()
    stored = Failed(subscriber_id, person.address, person.code, person.enhanced, person.reply)
    keys = {fingerprint(verdict, person.address), stored.fingerprint}
    places = ("", person.domain, host_group(host))
    return any((place, key) in tripped for place in places for key in keys)


def check(database: Database, reported: Mapping[int, Collection[int]], *, at: datetime) -> list[str]:
    """Undo the effects of the latest reports if nearly all have the same reply; return the new alerts.

    `reported` holds the subscribers that reports were about, by issue. Runs in its own transactions:
    restoring people locks many rows in their order, which a transaction that holds some already may not.
    """
    alerts: list[str] = []
    for issue_id, subscriber_ids in reported.items():
        with database.reading() as connection:
            patterns = find_patterns(connection, issue_id, subscriber_ids, at=at)
        for pattern in patterns:
            with database.transaction() as connection:
                alerts += _trip(connection, issue_id, pattern, at)
    for text in alerts:
        _log.warning("%s", text)
    return alerts


def _trip(connection: Connection, issue_id: int, pattern: Pattern, at: datetime) -> list[str]:
    """Undo the effects of a pattern's reports; if the pattern is new, pause the issue and write an alert.

    People are locked before the issue, as a run does.
    """
    ids = sorted(row.subscriber_id for row in pattern.alike)
    connection.execute(_LOCK, {"ids": ids})
    the = "the last " if pattern.latest else ""
    reason = (
        f"{pattern.count:,} of {the}{pattern.total:,} messages{pattern.place} came back with one reply,"
        f" so it is taken to be about us and nobody is suppressed for it: {pattern.example}"
    )
    alike = set(ids)
    suppressed = [one for one in bounced_ids(connection, issue_id=issue_id) if one in alike]
    restored = restore(connection, suppressed, reason=reason, at=at)
    forget_soft_bounces(connection, issue_id, ids)
    issue = connection.execute(
        select(StoredIssue.c.slug, StoredIssue.c.state, StoredIssue.c.canary)
        .where(StoredIssue.c.id == issue_id)
        .with_for_update()
    ).one()
    # A pattern of the whole issue covers each of its places.
    if {(pattern.place.name, pattern.key), ("", pattern.key)} & _tripped(connection, issue_id):
        return []
    commands = f"mailer retry {issue.slug} --only failed && mailer send {issue.slug}"
    if issue.state in (IssueState.SENDING.value, IssueState.PAUSED.value):
        commands = commands.replace(" && ", f" && mailer resume {issue.slug} && ")
    told = f"{reason}; once the cause is fixed: {commands}"
    if issue.state == IssueState.SENDING.value:
        _pause(connection, issue_id, told, canary=issue.canary)
    text = f"{issue.slug}: {told}"
    details = {
        "of": ONE_REPLY,
        "count": pattern.count,
        "settled": pattern.total,
        "restored": sum(one.status is not None for one in restored),
        "place": pattern.place.name,
        "reply": pattern.key,
        "text": text,
    }
    connection.execute(insert(Event).values(at=at, kind=ALERT, issue_id=issue_id, details=details))
    return [text]


def _pause(connection: Connection, issue_id: int, reason: str, *, canary: str | None) -> None:
    """Pause an issue that is being sent. A canary that waits for reports begins again when it is resumed."""
    values: dict[str, object] = {"state": IssueState.PAUSED.value, "reason": reason}
    if canary == CanaryState.WAITING.value:
        values |= {"canary": CanaryState.SENDING.value, "canary_until": None}
    connection.execute(update(StoredIssue).where(StoredIssue.c.id == issue_id).values(values))


def _tripped(connection: Connection, issue_id: int) -> set[tuple[str, str]]:
    """Return the places and fingerprints over which the breaker has tripped for an issue."""
    alerts = connection.scalars(
        select(Event.c.details).where(Event.c.issue_id == issue_id, Event.c.kind == ALERT)
    )
    return {(one["place"], one["reply"]) for one in alerts if one.get("of") == ONE_REPLY}
