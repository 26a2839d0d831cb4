"""Judge stored reports again with the current rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from mailer.bounces.record import Recorded, ReportOutcome, Rules, apply_stored, check_breaker, locked
from mailer.database.engine import Database
from mailer.database.tables import StoredReport
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
        with database.reading() as connection:
            # A report whose octets were pruned cannot be judged again.
            query = select(StoredReport.c.id).where(StoredReport.c.id > last, StoredReport.c.raw != b"")
            ids = list(connection.scalars(query.order_by(StoredReport.c.id).limit(200)))
        if not ids:
            return
        applied: list[Recorded] = []
        for report_id in ids:
            with database.transaction() as connection:
                stored = locked(connection, report_id)
                before, after = apply_stored(connection, signer, stored, at=at, rules=rules)
                if dry_run:
                    connection.rollback()
            if _essence(before) != _essence(after):
                applied.append(after)
                yield Change(before, after)
        if not dry_run:
            check_breaker(database, applied, at=at)
        last = ids[-1]


def _essence(recorded: Recorded) -> tuple[str, ReportOutcome, str | None, bool]:
    return recorded.kind, recorded.outcome, recorded.bounce_class, recorded.hard
