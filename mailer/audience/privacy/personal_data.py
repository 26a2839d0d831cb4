"""A person's copy of their data (GDPR 15 and 20)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

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
    Wording,
)


def personal_data(session: Session, subscriber_id: int) -> dict[str, Any] | None:
    """Return everything stored about a person, ready for JSON (GDPR 15 and 20), or None."""
    known = session.get(Subscriber, subscriber_id)
    if known is None or known.status == SubscriberStatus.ERASED:
        return None
    return {
        "profile": _profile(session, known),
        "consents": _consents(session, subscriber_id),
        "deliveries": _deliveries(session, subscriber_id),
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


def _profile(session: Session, known: Subscriber) -> dict[str, Any]:
    listed = session.get(Suppression, known.address_key)
    return {
        "address": known.address,
        "name": known.name,
        "status": known.status,
        "attributes": known.attributes,
        "tags": sorted(
            session.scalars(select(SubscriberTag.tag).where(SubscriberTag.subscriber_id == known.id))
        ),
        "tracking_consent": known.tracking_consent,
        "paused_until": _iso(known.paused_until),
        "suppressed": listed.reason if listed else None,
        "created_at": _iso(known.created_at),
        "changed_at": _iso(known.changed_at),
    }


def _consents(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    lines = (
        select(Consent, Wording.text)
        .outerjoin(Wording, Wording.version == Consent.form_version)
        .where(Consent.subscriber_id == subscriber_id)
        .order_by(Consent.id)
    )
    return [
        {
            "at": _iso(line.at),
            "before": line.before,
            "after": line.after,
            "way": line.way,
            "ip": line.ip,
            "form": line.form,
            "form_version": line.form_version,
            "wording": wording,
            "note": line.note,
        }
        for line, wording in session.execute(lines)
    ]


def _deliveries(session: Session, subscriber_id: int) -> list[dict[str, Any]]:
    rows = (
        select(Delivery, StoredIssue.slug, StoredIssue.title)
        .join(StoredIssue, StoredIssue.id == Delivery.issue_id)
        .where(Delivery.subscriber_id == subscriber_id)
        .order_by(Delivery.issue_id)
    )
    return [
        {
            "issue": slug,
            "title": title,
            "state": row.state,
            "attempts": row.attempts,
            "first_at": _iso(row.first_at),
            "changed_at": _iso(row.changed_at),
            "reply": row.reply,
        }
        for row, slug, title in session.execute(rows)
    ]


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
