"""Undo suppressions that were our own fault: those of an issue, a run or a bounce class."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select

from mailer.audience.corrections import Restoration, bounced_ids, restore
from mailer.database.tables import Delivery, Run, StoredIssue
from mailer.errors import SourceError
from mailer.printable import whole_number
from mailer.replies import BounceClass


def undo(
    connection: Connection, what: str, *, reason: str, at: datetime, dry_run: bool = False
) -> list[Restoration]:
    """Restore everybody who bounced because of `what`: a run's number, an issue's slug or a bounce class.

    Raises `SourceError` if it is none of these.
    """
    return restore(connection, _ids(connection, what), reason=reason, at=at, dry_run=dry_run)


def _ids(connection: Connection, what: str) -> list[int]:
    if what in list(BounceClass):
        return bounced_ids(connection, bounce_class=what)
    run_id = whole_number(what)
    this_run = select(Run.c.id, Run.c.issue_id, Run.c.started_at).where(Run.c.id == run_id)
    if run_id is not None and (run := connection.execute(this_run).one_or_none()) is not None:
        theirs = set(
            connection.scalars(
                select(Delivery.c.subscriber_id).where(
                    Delivery.c.issue_id == run.issue_id, Delivery.c.run_id == run.id
                )
            )
        )
        since = run.started_at
        return [one for one in bounced_ids(connection, issue_id=run.issue_id, since=since) if one in theirs]
    issue_id = connection.scalar(select(StoredIssue.c.id).where(StoredIssue.c.slug == what))
    if issue_id is None:
        raise SourceError(
            f"'{what}' is not a run, an issue or a bounce class",
            remedy=f"the classes are {', '.join(BounceClass)}; see the issues with: mailer status",
        )
    return bounced_ids(connection, issue_id=issue_id)
