"""Resending: a new issue that repeats an earlier one for the readers who did not react to it.

Readers get the resend if they got the issue, agreed to tracking, and did not react. Nobody gets the same
issue resent twice, however many issues repeat it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, exists, select, true

from mailer.database.tables import Delivery, DeliveryState, StoredEdition, StoredIssue, Subscriber
from mailer.errors import RefusedError
from mailer.rendering.edition import Resend

_LABELS = {"clicks": "clicked", "opens": "opened"}
_TRACKED = {"clicks": "urls.click", "opens": "urls.open"}


def narrowed(
    connection: Connection,
    resend: Resend,
    original_id: int,
    segment: str,
    condition: ColumnElement[bool] | None,
) -> tuple[str, ColumnElement[bool]]:
    """Return the segment of a resend as text, and its condition.

    `condition` is that of the operator's own `segment`. Raises `RefusedError` if the original is a resend
    itself, or if reactions to it were not tracked.
    """
    # Imported here: few issues are resends, and the parser takes long to load.
    from mailer.audience.segments import parse_segment

    original = connection.execute(
        select(StoredIssue.c.slug, StoredIssue.c.resend_of, StoredEdition.c.content)
        .join(StoredEdition)
        .where(StoredIssue.c.id == original_id)
    ).one()
    if original.resend_of is not None:
        raise RefusedError(
            f"{original.slug} is a resend itself; its readers would get the same issue a third time",
            remedy="resend the original issue",
        )
    if _TRACKED[resend.without] not in original.content:
        raise RefusedError(
            f"{resend.without} of {original.slug} were not tracked, so nobody knows who to resend it to"
        )
    text = f'sent:"{original.slug}" and not {_LABELS[resend.without]}:"{original.slug}"'
    theirs = parse_segment(text, {}).condition
    whole = f"({segment}) and {text}" if segment else text
    return whole, and_(true() if condition is None else condition, theirs, ~_resent(original_id))


def _resent(original_id: int) -> ColumnElement[bool]:
    """Return whether an issue was resent to a subscriber, or may have been."""
    again = StoredIssue.alias().c
    return exists().where(
        again.resend_of == original_id,
        Delivery.c.issue_id == again.id,
        Delivery.c.subscriber_id == Subscriber.c.id,
        Delivery.c.state != DeliveryState.SKIPPED.value,
    )
