"""Undo suppressions that were our own fault: those of an issue, a run or a bounce class."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.audience.corrections import Restoration, bounced_ids, restore
from mailer.database.models import Delivery, Run, StoredIssue
from mailer.errors import SourceError
from mailer.printable import whole_number
from mailer.replies import BounceClass


def undo(
    session: Session, what: str, *, reason: str, at: datetime, dry_run: bool = False
) -> list[Restoration]:
    """Restore everybody who bounced because of `what`: a run's number, an issue's slug or a bounce class.

    Raises `SourceError` if it is none of these.
    """
    return restore(session, _ids(session, what), reason=reason, at=at, dry_run=dry_run)


def _ids(session: Session, what: str) -> list[int]:
    if what in list(BounceClass):
        return bounced_ids(session, bounce_class=what)
    run_id = whole_number(what)
    if run_id is not None and (run := session.get(Run, run_id)) is not None:
        theirs = set(
            session.scalars(
                select(Delivery.subscriber_id).where(
                    Delivery.issue_id == run.issue_id, Delivery.run_id == run.id
                )
            )
        )
        since = run.started_at
        return [one for one in bounced_ids(session, issue_id=run.issue_id, since=since) if one in theirs]
    issue_id = session.scalar(select(StoredIssue.id).where(StoredIssue.slug == what))
    if issue_id is None:
        raise SourceError(
            f"'{what}' is not a run, an issue or a bounce class",
            remedy=f"the classes are {', '.join(BounceClass)}; see the issues with: mailer status",
        )
    return bounced_ids(session, issue_id=issue_id)
