"""A person's copy of their data (GDPR 15 and 20)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from mailer.database.tables import (
    Consent,
    Delivery,
    Event,
    StoredIssue,
    StoredReport,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
    Suppression,
    TableRow,
    Wording,
)


def personal_data(connection: Connection, subscriber_id: int) -> dict[str, Any] | None:
    """Return everything stored about a person, ready for JSON (GDPR 15 and 20), or None."""
    known = connection.execute(select(Subscriber).where(Subscriber.c.id == subscriber_id)).one_or_none()
    if known is None or known.status == SubscriberStatus.ERASED:
        return None
    return {
        "profile": _profile(connection, known),
        "consents": _consents(connection, subscriber_id),
        "deliveries": _deliveries(connection, subscriber_id),
        "events": [
            {"at": _iso(event.at), "kind": event.kind, "issue": event.issue_id, "details": event.details}
            for event in connection.execute(
                select(Event.c.at, Event.c.kind, Event.c.issue_id, Event.c.details)
                .where(Event.c.subscriber_id == subscriber_id)
                .order_by(Event.c.id)
            )
        ],
        "reports": [
            {"at": _iso(report.received_at), "kind": report.kind, "class": report.bounce_class}
            for report in connection.execute(
                select(StoredReport.c.received_at, StoredReport.c.kind, StoredReport.c.bounce_class)
                .where(StoredReport.c.subscriber_id == subscriber_id)
                .order_by(StoredReport.c.id)
            )
        ],
    }


def _profile(connection: Connection, known: TableRow) -> dict[str, Any]:
    suppressed = select(Suppression.c.reason).where(Suppression.c.address_key == known.address_key)
    return {
        "address": known.address,
        "name": known.name,
        "status": known.status,
        "attributes": known.attributes,
        "tags": sorted(
            connection.scalars(select(SubscriberTag.c.tag).where(SubscriberTag.c.subscriber_id == known.id))
        ),
        "tracking_consent": known.tracking_consent,
        "paused_until": _iso(known.paused_until),
        "suppressed": connection.scalar(suppressed),
        "created_at": _iso(known.created_at),
        "changed_at": _iso(known.changed_at),
    }


def _consents(connection: Connection, subscriber_id: int) -> list[dict[str, Any]]:
    lines = (
        select(Consent, Wording.c.text.label("wording"))
        .outerjoin(Wording, Wording.c.version == Consent.c.form_version)
        .where(Consent.c.subscriber_id == subscriber_id)
        .order_by(Consent.c.id)
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
            "wording": line.wording,
            "note": line.note,
        }
        for line in connection.execute(lines)
    ]


def _deliveries(connection: Connection, subscriber_id: int) -> list[dict[str, Any]]:
    rows = (
        select(Delivery, StoredIssue.c.slug, StoredIssue.c.title)
        .join(StoredIssue, StoredIssue.c.id == Delivery.c.issue_id)
        .where(Delivery.c.subscriber_id == subscriber_id)
        .order_by(Delivery.c.issue_id)
    )
    return [
        {
            "issue": row.slug,
            "title": row.title,
            "state": row.state,
            "attempts": row.attempts,
            "first_at": _iso(row.first_at),
            "changed_at": _iso(row.changed_at),
            "reply": row.reply,
        }
        for row in connection.execute(rows)
    ]


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
