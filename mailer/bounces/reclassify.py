"""Judge stored reports again with the current rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from mailer.bounces.record import Recorded, ReportOutcome, Rules, apply_stored, check_breaker
from mailer.database.models import StoredReport
from mailer.database.session import Database
from mailer.tokens import Signer


@dataclass(frozen=True, slots=True)
class Change:
    """A report that the current rules judge differently."""

    before: Recorded
    after: Recorded

    @property
    def no_longer_hard(self) -> bool:
        """Whether an address was suppressed that would not be today; the operator should check it."""
        return self.before.hard and not self.after.hard


def reclassify(
    database: Database, signer: Signer, *, at: datetime, rules: Rules, dry_run: bool = False
) -> Iterator[Change]:
    """Judge every stored report again and yield those whose result changed.

    A report that turns out to be worse takes effect now. One that turns out to be harmless does not restore
    anybody: that takes the person or the operator (`bounces undo`). With `dry_run` nothing is written.
    """
    last = 0
    while True:
        with database.reading() as session:
            # A report whose octets were pruned cannot be judged again.
            query = select(StoredReport.id).where(StoredReport.id > last, StoredReport.raw != b"")
            ids = list(session.scalars(query.order_by(StoredReport.id).limit(200)))
        if not ids:
            return
        applied: list[Recorded] = []
        for report_id in ids:
            with database.transaction() as session:
                stored = session.get_one(StoredReport, report_id, with_for_update=True)
                before, after = apply_stored(session, signer, stored, at=at, rules=rules)
                if dry_run:
                    session.rollback()
            if _essence(before) != _essence(after):
                applied.append(after)
                yield Change(before, after)
        if not dry_run:
            check_breaker(database, applied, at=at)
        last = ids[-1]


def _essence(recorded: Recorded) -> tuple[str, ReportOutcome, str | None, bool]:
    return recorded.kind, recorded.outcome, recorded.bounce_class, recorded.hard
