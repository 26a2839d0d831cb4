"""What subscribers decide about their mail besides having it: each change is a line in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.audience.subscribers import Origin
from mailer.database.models import (
    Consent,
    Delivery,
    Event,
    StoredIssue,
    StoredReport,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    Suppression,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscriber as their own pages show them."""

    id: int
    address: str
    address_key: str
    name: str
    status: SubscriberStatus
    changed_at: datetime
    paused_until: datetime | None
    tracking_consent: bool


def standing(session: Session, subscriber_id: int) -> Standing | None:
    """Return where a subscriber stands; None when there is none, or nothing is left of them."""
    known = _known(session, subscriber_id)
    if known is None:
        return None
    return Standing(
        id=known.id,
        address=known.address,
        address_key=known.address_key,
        name=known.name,
        status=SubscriberStatus(known.status),
        changed_at=known.changed_at,
        paused_until=known.paused_until,
        tracking_consent=known.tracking_consent,
    )


def allow_tracking(
    session: Session, subscriber_id: int, allowed: bool, *, origin: Origin, at: datetime
) -> bool:
    """Let clicks and opens be noted for a subscriber, or no more; return whether that changed."""
    known = _known(session, subscriber_id)
    if known is None or known.tracking_consent == allowed:
        return False
    known.tracking_consent, known.changed_at = allowed, at
    _write(session, known, "tracking allowed" if allowed else "tracking forbidden", origin, at)
    return True


def pause(
    session: Session, subscriber_id: int, until: datetime | None, *, origin: Origin, at: datetime
) -> bool:
    """Mail an active subscriber nothing before `until` (None: from now on again); return if it changed."""
    known = _known(session, subscriber_id)
    if known is None or known.status != SubscriberStatus.ACTIVE or known.paused_until == until:
        return False
    known.paused_until, known.changed_at = until, at
    _write(session, known, f"paused until {until:%Y-%m-%d}" if until else "pause ended", origin, at)
    return True


def personal_data(session: Session, subscriber_id: int) -> dict[str, Any] | None:
    """Return all that is kept of a person, ready for JSON (GDPR 15 and 20); None when nothing is."""
    known = _known(session, subscriber_id)
    if known is None:
        return None
    deliveries = session.execute(
        select(Delivery, StoredIssue.slug, StoredIssue.title)
        .join(StoredIssue, StoredIssue.id == Delivery.issue_id)
        .where(Delivery.subscriber_id == subscriber_id)
        .order_by(Delivery.issue_id)
    )
    about_them = Consent.subscriber_id == subscriber_id
    listed = session.get(Suppression, known.address_key)
    return {
        "profile": {
            "address": known.address,
            "name": known.name,
            "status": known.status,
            "attributes": known.attributes,
            "tags": sorted(_tags(session, subscriber_id)),
            "tracking_consent": known.tracking_consent,
            "paused_until": _iso(known.paused_until),
            "suppressed": listed.reason if listed else None,
            "created_at": _iso(known.created_at),
            "changed_at": _iso(known.changed_at),
        },
        "consents": [
            {
                "at": _iso(line.at),
                "before": line.before,
                "after": line.after,
                "way": line.way,
                "ip": line.ip,
                "form": line.form,
                "form_version": line.form_version,
                "note": line.note,
            }
            for line in session.scalars(select(Consent).where(about_them).order_by(Consent.id))
        ],
        "deliveries": [
            {
                "issue": slug,
                "title": title,
                "state": row.state,
                "attempts": row.attempts,
                "first_at": _iso(row.first_at),
                "changed_at": _iso(row.changed_at),
                "reply": row.reply,
            }
            for row, slug, title in deliveries
        ],
        "events": [
            {"at": _iso(event.at), "kind": event.kind, "issue": event.issue_id, "details": event.details}
            for event in session.scalars(
                select(Event).where(Event.subscriber_id == subscriber_id).order_by(Event.id)
            )
        ],
        "reports": [
            {"at": _iso(report.received_at), "kind": report.kind, "class": report.bounce_class}
            for report in session.scalars(
                select(StoredReport)
                .where(StoredReport.subscriber_id == subscriber_id)
                .order_by(StoredReport.id)
            )
        ],
    }


def _known(session: Session, subscriber_id: int) -> Subscriber | None:
    known = session.get(Subscriber, subscriber_id)
    return None if known is None or known.status == SubscriberStatus.ERASED else known


def _tags(session: Session, subscriber_id: int) -> frozenset[str]:
    wanted = select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == subscriber_id)
    return frozenset(session.scalars(wanted))


def _write(session: Session, known: Subscriber, note: str, origin: Origin, at: datetime) -> None:
    session.add(
        Consent(
            subscriber_id=known.id,
            at=at,
            before=known.status,
            after=known.status,
            way=origin.way,
            ip=origin.ip,
            form=origin.form,
            form_version=origin.form_version,
            note=note,
            issue_id=origin.issue_id,
        )
    )
    session.flush()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
