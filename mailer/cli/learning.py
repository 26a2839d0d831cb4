"""What subscribers' states learn from the dialogue: the policy that bounces follow, handed to a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from mailer.bounces.alerts import AlertLimits, Returns, watch
from mailer.bounces.effects import apply_verdicts
from mailer.bounces.policy import SoftLimits
from mailer.config import Bounces
from mailer.delivery.bookkeeping import Learn
from mailer.delivery.breaker import Refusal


def learning(section: Bounces) -> Learn:
    """Return what a run calls with its refusals: the same policy as for reports that come by mail."""
    limits = SoftLimits(section.soft_points, section.soft_days, section.quiet_days)
    alerts = AlertLimits(section.alert_bounces_percent, section.alert_complaints_percent)

    def learn(session: Session, refusals: Sequence[Refusal], at: datetime) -> None:
        rows = [(refusal.issue_id, refusal.subscriber_id, refusal.verdict) for refusal in refusals]
        apply_verdicts(session, rows, at=at, limits=limits)
        counts = Counter(issue_id for issue_id, _, _ in rows)
        watch(session, {issue_id: Returns(count) for issue_id, count in counts.items()}, at=at, limits=alerts)

    return learn
