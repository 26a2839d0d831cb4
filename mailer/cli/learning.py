"""What the subscribers learn from refusals in the dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from mailer.audience.subscribers import Origin, change_status
from mailer.database.models import SubscriberStatus
from mailer.delivery.sender import Refusal


def learn(session: Session, refusals: Sequence[Refusal], at: datetime) -> None:
    """Suppress whom a hard refusal names."""
    for refusal in refusals:
        if refusal.verdict.hard:
            origin = Origin("bounce", note=refusal.verdict.text, issue_id=refusal.issue_id)
            change_status(session, refusal.subscriber_id, SubscriberStatus.BOUNCED, origin=origin, at=at)
