"""Record a report: store it unchanged, match it to a delivery, then act on it.

Anybody can write a message that looks like a bounce. So a report is trusted only if it carries our
signature, in the return path it was sent to or in the Message-ID it quotes; a webhook is trusted for the
provider's signature. Any other report is kept and shown but changes nothing, unless the operator sets
`bounces.trust_unsigned = true`. One with a broken signature changes nothing even then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never

import msgspec
from sqlalchemy import Connection, exists, select, update

from mailer.audience.ledger import change_status, predates_consent, unsubscribe
from mailer.audience.transitions import Origin
from mailer.bounces import breaker
from mailer.bounces.alerts import AlertLimits, Returns, watch
from mailer.bounces.effects import apply_verdicts, clear_soft_count, clear_soft_counts, fail_delivery
from mailer.bounces.matching import Basis, Match, address_key, match
from mailer.bounces.policy import SoftLimits, weight
from mailer.bounces.providers import webhooks
from mailer.bounces.providers.events import EventKind, WebhookEvent
from mailer.bounces.reading.mailto import find_subject
from mailer.bounces.reading.reader import read_report
from mailer.bounces.reading.report import BounceReport, ReportKind
from mailer.bounces.storing import despite_others, insert_report
from mailer.database.engine import Database
from mailer.database.tables import Delivery, StoredReport, SubscriberStatus, TableRow
from mailer.replies import Verdict, judge
from mailer.tokens import Signer
from mailer.webhooks.queue import Occurrence, put

# As much as the parser reads; what follows in a larger mail is the returned message.
MAX_RAW_OCTETS: Final = 1_048_576
UNSUBSCRIBE: Final = "unsubscribe"
_NOBODYS: Final = (
    ReportKind.AUTO_REPLY,
    ReportKind.CHALLENGE,
    ReportKind.DMARC,
    ReportKind.TLS,
    ReportKind.UNREADABLE,
)


class ReportOutcome(StrEnum):
    """The outcome of a report."""

    STORED = "stored"
    """Not read yet: the process ended in between, and the next fetch reads it."""
    APPLIED = "applied"
    IGNORED = "ignored"
    """Understood, but requires no action."""
    UNMATCHED = "unmatched"
    """About nobody we know, or not trusted."""
    FOREIGN = "foreign"
    """Sent to our return path, but about another address."""


class Effect(StrEnum):
    """The effect of a report on a subscriber."""

    NOTHING = ""
    SUPPRESSED = "suppressed"
    COUNTED = "counted"
    COMPLAINED = "complained"
    UNSUBSCRIBED = "unsubscribed"
    CLEARED = "cleared"
    WITHHELD = "withheld"
    """Not suppressed or counted: nearly all of the issue came back with this reply."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for trusting reports and for suppressing after soft bounces."""

    unsubscribe_address: str = ""
    trust_unsigned: bool = False
    limits: SoftLimits = field(default_factory=SoftLimits)
    alerts: AlertLimits = field(default_factory=AlertLimits)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The result of a report. `duplicate`: the same octets came before, so nothing was done again."""

    report_id: int
    kind: str
    outcome: ReportOutcome
    effect: Effect = Effect.NOTHING
    subscriber_id: int | None = None
    issue_id: int | None = None
    recipient: str = ""
    bounce_class: str | None = None
    hard: bool = False
    duplicate: bool = False


def check_breaker(database: Database, done: Iterable[Recorded], *, at: datetime) -> None:
    """Let the breaker check these deliveries; duplicates too, since the last check may have failed."""
    reported: dict[int, set[int]] = {}
    for one in done:
        if (
            one.kind == ReportKind.BOUNCE.value
            and one.outcome is ReportOutcome.APPLIED
            and one.issue_id is not None
            and one.subscriber_id is not None
        ):
            reported.setdefault(one.issue_id, set()).add(one.subscriber_id)
    breaker.check(database, reported, at=at)


def alert_on_returns(connection: Connection, done: Sequence[Recorded], at: datetime, rules: Rules) -> None:
    """Alert the operator to issues that bounce too often, counting these reports."""
    returns: dict[int, Returns] = {}
    for one in done:
        if one.issue_id is None or one.duplicate or one.outcome is not ReportOutcome.APPLIED:
            continue
        so_far = returns.get(one.issue_id, Returns())
        returns[one.issue_id] = Returns(
            so_far.failed + (one.kind == ReportKind.BOUNCE.value),
            so_far.complaints + (one.kind == ReportKind.COMPLAINT.value),
        )
    watch(connection, returns, at=at, limits=rules.alerts)


def record_events(
    database: Database, signer: Signer, events: Sequence[WebhookEvent], *, at: datetime, rules: Rules
) -> list[Recorded]:
    """Store a request's events, then act on each; those that change nothing are not kept.

    The caller has verified the sender. One transaction stores all, one acts: a request is whole.
    """
    relevant = [event for event in events if event.kind not in webhooks.PASSING]
    kept = [event for event in relevant if event.kind is not EventKind.DELIVERED]
    delivered = {address_key(event.recipient) for event in relevant if event.kind is EventKind.DELIVERED}

    def keep() -> list[int]:
        with database.transaction() as connection:
            ids = [
                insert_report(
                    connection, webhooks.freeze(event), source=webhooks.SOURCE + event.provider, at=at
                )
                for event in kept
            ]
            clear_soft_counts(connection, delivered)
            return ids

    ids = despite_others(keep)
    done: list[Recorded] = []
    with database.transaction() as connection:
        for report_id, event in zip(ids, kept, strict=True):
            stored = locked(connection, report_id)
            if stored.outcome != ReportOutcome.STORED.value:
                done.append(replace(recorded(stored), duplicate=True))
                continue
            report = webhooks.as_report(event)
            done.append(apply_report(connection, signer, stored, report, at=at, rules=rules, trusted=True))
        alert_on_returns(connection, done, at, rules)
    check_breaker(database, done, at=at)
    return done


def locked(connection: Connection, report_id: int) -> TableRow:
    """Return a stored report, locked until the end of the transaction."""
    query = select(StoredReport).where(StoredReport.c.id == report_id).with_for_update()
    return connection.execute(query).one()


def apply_mail(
    connection: Connection,
    signer: Signer,
    stored: TableRow,
    report: BounceReport,
    *,
    at: datetime,
    rules: Rules,
) -> Recorded:
    """Act on a stored message: a request to unsubscribe, or a report."""
    if (done := _unsubscribe_by_mail(connection, signer, stored, report, at, rules)) is not None:
        return done
    return apply_report(connection, signer, stored, report, at=at, rules=rules)


def apply_stored(
    connection: Connection, signer: Signer, stored: TableRow, *, at: datetime, rules: Rules
) -> tuple[Recorded, Recorded]:
    """Classify a stored report again and act on it; return the results before and after."""
    before = recorded(stored)
    if before.kind == UNSUBSCRIBE:
        # Already done. Somebody who has subscribed again since must not be unsubscribed again.
        return before, before
    is_webhook = stored.source.startswith(webhooks.SOURCE)
    report = webhooks.thaw(stored.raw) if is_webhook else read_report(stored.raw)
    verdict = _verdict(report, match(connection, signer, report))
    now = (report.kind.value, verdict.bounce_class if verdict else None, bool(verdict and verdict.hard))
    settled = before.outcome not in (ReportOutcome.STORED, ReportOutcome.UNMATCHED)
    if settled and now == (before.kind, before.bounce_class, before.hard):
        return before, before
    if is_webhook:
        return before, apply_report(connection, signer, stored, report, at=at, rules=rules, trusted=True)
    return before, apply_mail(connection, signer, stored, report, at=at, rules=rules)


def apply_report(
    connection: Connection,
    signer: Signer,
    stored: TableRow,
    report: BounceReport,
    *,
    at: datetime,
    rules: Rules,
    trusted: bool = False,
) -> Recorded:
    """Act on a stored report in the caller's transaction, and record the outcome.

    `trusted`: the sender has proved its identity (a webhook's signature), so an address is enough.
    """
    found = match(connection, signer, report)
    verdict = _verdict(report, found)
    is_believed = _is_believed(found, rules, trusted=trusted)
    if found.foreign:
        effect, outcome = Effect.NOTHING, ReportOutcome.FOREIGN
    elif is_believed and found.subscriber_id is not None:
        happened_at = _happened_at(connection, found.subscriber_id, stored, report, found)
        case = _Incident(stored.id, found.subscriber_id, found, report, verdict, happened_at, at)
        effect, outcome = _act_in_time(connection, case, rules)
    else:
        is_nobodys = found.basis is Basis.NONE and report.kind in _NOBODYS
        effect, outcome = Effect.NOTHING, (ReportOutcome.IGNORED if is_nobodys else ReportOutcome.UNMATCHED)
    named = found.recipient or (report.recipients[0] if report.recipients else None)
    return _update(
        connection,
        stored,
        kind=report.kind.value,
        outcome=outcome.value,
        issue_id=found.issue_id,
        subscriber_id=found.subscriber_id,
        recipient=named.address[:320] if named else "",
        bounce_class=verdict.bounce_class.value if verdict and verdict.bounce_class else None,
        hard=bool(verdict and verdict.hard),
        details=_details(report, found, verdict, effect),
    )


def _is_believed(found: Match, rules: Rules, *, trusted: bool) -> bool:
    """Return whether a report's signature, or its sender, shows that it is genuine."""
    if found.basis is Basis.ADDRESS:
        return trusted or (rules.trust_unsigned and not found.bad_token)
    return found.basis is Basis.TOKEN


def _act_in_time(connection: Connection, case: _Incident, rules: Rules) -> tuple[Effect, ReportOutcome]:
    """Act on a report unless the person has consented since; return the effect and the outcome."""
    if predates_consent(connection, case.subscriber_id, case.happened_at):
        return Effect.NOTHING, ReportOutcome.IGNORED
    effect, acted = _act(connection, case, rules)
    return effect, ReportOutcome.APPLIED if acted else ReportOutcome.IGNORED


def _happened_at(
    connection: Connection, subscriber_id: int, stored: TableRow, report: BounceReport, found: Match
) -> datetime:
    """Return when the reported event happened, at the latest when the report arrived.

    A webhook names the time. The clock of a system that sends bounce mail may be wrong, but no message
    bounces before it was sent.
    """
    received_at: datetime = stored.received_at
    happened = min(report.at or received_at, received_at)
    if stored.source.startswith(webhooks.SOURCE):
        return happened
    changed_at = connection.scalar(
        select(Delivery.c.changed_at).where(
            Delivery.c.issue_id == (found.issue_id or 0), Delivery.c.subscriber_id == subscriber_id
        )
    )
    return received_at if changed_at is None else max(happened, changed_at)


def _verdict(report: BounceReport, found: Match) -> Verdict | None:
    """Return the verdict on our recipient, or on the report's only recipient."""
    if report.kind is not ReportKind.BOUNCE:
        return None
    if found.recipient is not None:
        return found.recipient.verdict
    if len(report.recipients) == 1:
        return report.recipients[0].verdict
    return None if report.recipients else judge(None, "", "")


@dataclass(frozen=True, slots=True)
class _Incident:
    """A trusted report about one of our subscribers."""

    report_id: int
    subscriber_id: int
    found: Match
    report: BounceReport
    verdict: Verdict | None
    happened_at: datetime
    at: datetime

    def origin(self, way: str) -> Origin:
        """Return the origin of the changes that it makes."""
        note = f"report {self.report_id}: {self.report.feedback_type or self.report.kind}"
        return Origin(way, note=note, issue_id=self.found.issue_id, report_id=self.report_id)


def _act(connection: Connection, case: _Incident, rules: Rules) -> tuple[Effect, bool]:
    """Act on a trusted report; return the effect, and whether the report called for any."""
    match case.report.kind:
        case ReportKind.BOUNCE:
            return _bounce(connection, case, rules)
        case ReportKind.COMPLAINT:
            complaint = Occurrence(
                "complaint", {"issue_id": case.found.issue_id, "report": case.report_id}, case.subscriber_id
            )
            put(connection, [complaint], at=case.at)
            changed = change_status(
                connection,
                case.subscriber_id,
                SubscriberStatus.COMPLAINED,
                origin=case.origin("complaint"),
                at=case.at,
                happened_at=case.happened_at,
            )
            return (Effect.COMPLAINED if changed else Effect.NOTHING), True
        case ReportKind.OPT_OUT:
            origin = case.origin("complaint")
            changed = unsubscribe(
                connection, case.subscriber_id, origin=origin, at=case.at, happened_at=case.happened_at
            )
            return (Effect.UNSUBSCRIBED if changed else Effect.NOTHING), True
        case ReportKind.DELIVERED:
            cleared = clear_soft_count(connection, case.subscriber_id)
            return (Effect.CLEARED, True) if cleared else (Effect.NOTHING, False)
        case (
            ReportKind.DELAYED
            | ReportKind.ARF_OTHER
            | ReportKind.AUTO_REPLY
            | ReportKind.CHALLENGE
            | ReportKind.DMARC
            | ReportKind.TLS
            | ReportKind.ORDINARY
            | ReportKind.UNREADABLE
        ):
            return Effect.NOTHING, False
        case _:
            assert_never(case.report.kind)


def _bounce(connection: Connection, case: _Incident, rules: Rules) -> tuple[Effect, bool]:
    verdict, found = case.verdict, case.found
    if verdict is None or verdict.bounce_class is None:
        return Effect.NOTHING, False
    issue_id, subscriber_id = found.issue_id or 0, case.subscriber_id
    moved = fail_delivery(connection, issue_id, subscriber_id, verdict, at=case.at)
    if not moved and not verdict.hard:
        known = exists().where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == subscriber_id)
        if connection.scalar(select(known)):
            # A second report on one delivery: it has been counted, here or in the SMTP dialogue.
            return Effect.NOTHING, True
    host = found.recipient.remote if found.recipient else ""
    if breaker.is_about_us(connection, issue_id, subscriber_id, verdict, host=host):
        return Effect.WITHHELD, True
    given_up = apply_verdicts(
        connection,
        [(issue_id, subscriber_id, verdict)],
        at=case.at,
        limits=rules.limits,
        report_id=case.report_id,
        happened_at=case.happened_at,
    )
    if given_up:
        return Effect.SUPPRESSED, True
    return (Effect.COUNTED if weight(verdict) and not verdict.hard else Effect.NOTHING), True


def _unsubscribe_by_mail(
    connection: Connection,
    signer: Signer,
    stored: TableRow,
    report: BounceReport,
    at: datetime,
    rules: Rules,
) -> Recorded | None:
    """Unsubscribe the person named in a message to the unsubscribe address; None if it is another message."""
    subject = find_subject(signer, report.mailto, rules.unsubscribe_address)
    if subject is None:
        return None
    origin = Origin("mailto", note=f"report {stored.id}", issue_id=subject.issue_id or None)
    changed = unsubscribe(connection, subject.subscriber_id, origin=origin, at=at)
    effect = Effect.UNSUBSCRIBED if changed else Effect.NOTHING
    return _update(
        connection,
        stored,
        kind=UNSUBSCRIBE,
        outcome=ReportOutcome.APPLIED.value,
        issue_id=subject.issue_id or None,
        subscriber_id=subject.subscriber_id,
        details={"effect": effect.value},
    )


def _details(
    report: BounceReport, found: Match, verdict: Verdict | None, effect: Effect
) -> dict[str, object]:
    """Return the details to store with a report, without empty values."""
    details: dict[str, object] = {
        "effect": effect.value,
        "basis": found.basis.value,
        "bad_token": found.bad_token,
        "status": verdict.enhanced if verdict else "",
        "code": verdict.code if verdict else None,
        "text": verdict.text if verdict else "",
        "remote": found.recipient.remote if found.recipient else "",
        "feedback_type": report.feedback_type,
        "reporter": report.reporter,
        "recipients": len(report.recipients),
        "authentication": msgspec.to_builtins(report.authentication),
    }
    return {name: value for name, value in details.items() if value}


def _update(connection: Connection, stored: TableRow, **values: object) -> Recorded:
    """Store what became of a report unless it is stored already, and return its record."""
    if all(getattr(stored, name) == value for name, value in values.items()):
        return recorded(stored)
    changed = update(StoredReport).where(StoredReport.c.id == stored.id).values(values)
    return recorded(connection.execute(changed.returning(*_RECORDED)).one())


_RECORDED: Final = (
    StoredReport.c.id,
    StoredReport.c.kind,
    StoredReport.c.outcome,
    StoredReport.c.details,
    StoredReport.c.subscriber_id,
    StoredReport.c.issue_id,
    StoredReport.c.recipient,
    StoredReport.c.bounce_class,
    StoredReport.c.hard,
)


def recorded(stored: TableRow) -> Recorded:
    """Return the record of a stored report."""
    return Recorded(
        report_id=stored.id,
        kind=stored.kind,
        outcome=ReportOutcome(stored.outcome),
        effect=Effect(stored.details.get("effect", "")),
        subscriber_id=stored.subscriber_id,
        issue_id=stored.issue_id,
        recipient=stored.recipient,
        bounce_class=stored.bounce_class,
        hard=stored.hard,
    )
