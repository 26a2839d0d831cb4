"""Apply the bounce policy to refusals in the SMTP dialogue, which count like bounces by email."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from mailer.config import Bounces
from mailer.replies import Refusal


def learn_by(section: Bounces) -> Callable[[Connection, Sequence[Refusal], datetime], None]:
    """Return the function that applies the bounce policy to the refusals of a run."""

    def learn(connection: Connection, refusals: Sequence[Refusal], at: datetime) -> None:
        # Imported at the first refusal: most runs have none.
        from mailer.bounces.alerts import AlertLimits, Returns, watch
        from mailer.bounces.effects import apply_verdicts
        from mailer.bounces.policy import SoftLimits

        limits = SoftLimits(section.soft_points, section.soft_days, section.quiet_days)
        alerts = AlertLimits(section.alert_bounces_percent, section.alert_complaints_percent)
        rows = [(refusal.issue_id, refusal.subscriber_id, refusal.verdict) for refusal in refusals]
        apply_verdicts(connection, rows, at=at, limits=limits)
        counts = Counter(issue_id for issue_id, _, _ in rows)
        watch(
            connection, {issue_id: Returns(count) for issue_id, count in counts.items()}, at=at, limits=alerts
        )

    return learn
