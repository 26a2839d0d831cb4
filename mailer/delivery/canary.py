"""The canary: a part of the audience that gets an issue first, so that what is wrong strikes few.

Its state lies on the issue and its members in a table of their own, so that whoever sends, and however
often they were killed, only members are mailed until it has passed.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, distinct, exists, func, insert, literal, select, update
from sqlalchemy.orm import Session

from mailer.config import Canary
from mailer.database.models import (
    CanaryMember,
    CanaryState,
    Delivery,
    DeliveryState,
    IssueState,
    StoredIssue,
    StoredReport,
    Subscriber,
)
from mailer.delivery import issues
from mailer.delivery.issues import count_of

_TRIED = [
    state.value
    for state in (DeliveryState.SENT, DeliveryState.DEFERRED, DeliveryState.FAILED, DeliveryState.UNCERTAIN)
]
_COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of a canary's members."""

    members: int
    tried: int
    bounced: int
    """Failed in the dialogue or returned since."""
    deferred: int
    complained: int


def begin(session: Session, issue_id: int, share: float, seeds: Collection[str]) -> int:
    """Choose the members among an issue's deliveries by chance, at least one; return how many.

    Whoever of `seeds` (addresses) is in the audience is a member besides.
    """
    audience = select(func.count()).select_from(Delivery).where(Delivery.issue_id == issue_id)
    number = max(1, math.ceil((session.scalar(audience) or 0) * share))
    chosen = (
        select(literal(issue_id), Delivery.subscriber_id)
        .where(Delivery.issue_id == issue_id)
        .order_by(func.random())
        .limit(number)
    )
    member = ["issue_id", "subscriber_id"]
    session.execute(insert(CanaryMember).from_select(member, chosen))
    if seeds:
        asked_for = (
            select(literal(issue_id), Delivery.subscriber_id)
            .join(Subscriber, Subscriber.id == Delivery.subscriber_id)
            .where(
                Delivery.issue_id == issue_id,
                Subscriber.address_key.in_([seed.lower() for seed in seeds]),
                ~exists().where(
                    CanaryMember.issue_id == issue_id, CanaryMember.subscriber_id == Delivery.subscriber_id
                ),
            )
        )
        session.execute(insert(CanaryMember).from_select(member, asked_for))
    advance(session, issue_id, CanaryState.SEEDING)
    return findings(session, issue_id).members


def strangers(session: Session, issue_id: int, seeds: Collection[str]) -> list[str]:
    """Return the seeds that are not in the audience: they get a mail outside of the queue."""
    members = (
        select(Subscriber.address_key)
        .join(CanaryMember, CanaryMember.subscriber_id == Subscriber.id)
        .where(CanaryMember.issue_id == issue_id)
    )
    known = set(session.scalars(members))
    return [seed for seed in seeds if seed.lower() not in known]


def advance(session: Session, issue_id: int, state: CanaryState, *, until: datetime | None = None) -> None:
    """Write how far a canary has come; `until` is how long it waits."""
    session.execute(
        update(StoredIssue).where(StoredIssue.id == issue_id).values(canary=state.value, canary_until=until)
    )


def let_pass(session: Session, issue_id: int, *, at: datetime) -> None:
    """Let the rest of the audience follow, and show the issue in the archive."""
    advance(session, issue_id, CanaryState.PASSED)
    issues.publish(session, issue_id, at=at)


def stop(session: Session, issue_id: int, reason: str) -> bool:
    """Pause the issue because its canary broke a limit; return whether it was being sent.

    An issue that is paused already keeps its reason; its canary is judged again when it is resumed.
    """
    stopped = issues.pause(session, issue_id, reason)
    if stopped:
        advance(session, issue_id, CanaryState.STOPPED)
    return stopped


def hurry(session: Session, issue_id: int) -> bool:
    """End the wait of a canary by the operator's word; return whether it waited."""
    waited = update(StoredIssue).where(
        StoredIssue.id == issue_id,
        StoredIssue.canary == CanaryState.WAITING.value,
        StoredIssue.state == IssueState.SENDING.value,
    )
    return bool(count_of(session.execute(waited.values(canary=CanaryState.PASSED.value, canary_until=None))))


def findings(session: Session, issue_id: int) -> Findings:
    """Count what became of the members, also what came back since."""

    def number(*states: str) -> ColumnElement[Any]:
        return func.coalesce(func.sum(case((Delivery.state.in_(states), 1), else_=0)), 0)

    ours = and_(
        CanaryMember.issue_id == Delivery.issue_id, CanaryMember.subscriber_id == Delivery.subscriber_id
    )
    counted = session.execute(
        select(
            func.count(),
            number(*_TRIED),
            number(DeliveryState.FAILED.value),
            number(DeliveryState.DEFERRED.value),
        )
        .select_from(CanaryMember)
        .join(Delivery, ours)
        .where(CanaryMember.issue_id == issue_id)
    ).one()
    complained = session.scalar(
        select(func.count(distinct(StoredReport.subscriber_id)))
        .join(CanaryMember, CanaryMember.subscriber_id == StoredReport.subscriber_id)
        .where(
            CanaryMember.issue_id == issue_id,
            StoredReport.issue_id == issue_id,
            StoredReport.kind == _COMPLAINT,
        )
    )
    members, tried, bounced, deferred = (int(value) for value in counted)
    return Findings(members, tried, bounced, deferred, complained or 0)


def broken(found: Findings, limits: Canary) -> str:
    """Return which limit a canary broke, in words; empty if none.

    One alone never breaks any: of ten members it would be ten in a hundred.
    """
    told = []
    for what, number, limit in (
        ("bounced", found.bounced, limits.max_bounced),
        ("were refused for now", found.deferred, limits.max_deferred),
        ("complained", found.complained, limits.max_complained),
    ):
        if number > max(1, limit * found.tried):
            share = number / found.tried
            told.append(f"{number:,} of {found.tried:,} {what} ({share:.1%}, the limit is {limit:.1%})")
    return "canary: " + "; ".join(told) if told else ""
