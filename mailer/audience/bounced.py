"""Many subscribers to `bounced` at once: a sending run settles hundreds of refusals in one step."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from mailer.audience.subscribers import TRANSITIONS
from mailer.database.models import Consent, Subscriber, SubscriberStatus, Suppression

REASON: Final = "hard bounce"
_FROM: Final = tuple(before.value for before, after in TRANSITIONS if after is SubscriberStatus.BOUNCED)


def mark_bounced(
    session: Session,
    notes: Mapping[int, str],
    *,
    at: datetime,
    issue_ids: Mapping[int, int] | None = None,
    report_id: int | None = None,
) -> frozenset[int]:
    """Bring subscribers to `bounced` and suppress their addresses; return whose status changed.

    `notes` says for each subscriber why, for the ledger. Who opted out, complained or was erased stays
    so. A handful of statements, however many subscribers; call it with at most some thousands.
    """
    found = session.execute(
        select(Subscriber.id, Subscriber.address_key, Subscriber.status)
        .where(Subscriber.id.in_(list(notes)), Subscriber.status.in_(_FROM))
        .with_for_update()
    ).all()
    if not found:
        return frozenset()
    session.execute(
        update(Subscriber)
        .where(Subscriber.id.in_([row.id for row in found]))
        .values(status=SubscriberStatus.BOUNCED.value, changed_at=at)
    )
    known = set(
        session.scalars(
            select(Suppression.address_key).where(
                Suppression.address_key.in_([row.address_key for row in found])
            )
        )
    )
    suppressions: list[dict[str, Any]] = [
        {"address_key": row.address_key, "reason": REASON, "at": at, "note": notes[row.id],
         "report_id": report_id}
        for row in found
        if row.address_key not in known
    ]  # fmt: skip
    if suppressions:
        session.execute(insert(Suppression), suppressions)
    session.execute(
        insert(Consent),
        [
            {"subscriber_id": row.id, "at": at, "before": row.status,
             "after": SubscriberStatus.BOUNCED.value, "way": "bounce", "note": notes[row.id],
             "issue_id": (issue_ids or {}).get(row.id)}
            for row in found
        ],
    )  # fmt: skip
    return frozenset(row.id for row in found)
