"""Resending: a new issue that repeats an earlier one for the readers who did not react to it.

Readers get the resend if they got the issue, agreed to tracking, and did not react. Nobody gets the same
issue resent twice, however many issues repeat it.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, true
from sqlalchemy.orm import Session, aliased

from mailer.database.models import Delivery, DeliveryState, StoredEdition, StoredIssue, Subscriber
from mailer.errors import RefusedError
from mailer.rendering.edition import Resend

_LABELS = {"clicks": "clicked", "opens": "opened"}
_TRACKED = {"clicks": "urls.click", "opens": "urls.open"}


def narrowed(
    session: Session, resend: Resend, original_id: int, segment: str, condition: ColumnElement[bool] | None
) -> tuple[str, ColumnElement[bool]]:
    """Return the segment of a resend as text, and its condition.

    `condition` is that of the operator's own `segment`. Raises `RefusedError` if the original is a resend
    itself, or if reactions to it were not tracked.
    """
    # Imported here: few issues are resends, and the parser takes long to load.
    from mailer.audience.segments import parse_segment

    original = session.get_one(StoredIssue, original_id)
    if original.resend_of is not None:
        raise RefusedError(
            f"{original.slug} is a resend itself; its readers would get the same issue a third time",
            remedy="resend the original issue",
        )
    content = session.get_one(StoredEdition, original.edition_digest).content
    if _TRACKED[resend.without] not in content:
        raise RefusedError(
            f"{resend.without} of {original.slug} were not tracked, so nobody knows who to resend it to"
        )
    text = f'sent:"{original.slug}" and not {_LABELS[resend.without]}:"{original.slug}"'
    theirs = parse_segment(text, {}).condition
    whole = f"({segment}) and {text}" if segment else text
    return whole, and_(true() if condition is None else condition, theirs, ~_resent(original_id))


def _resent(original_id: int) -> ColumnElement[bool]:
    """Return whether an issue was resent to a subscriber, or may have been."""
    again = aliased(StoredIssue)
    return exists().where(
        again.resend_of == original_id,
        Delivery.issue_id == again.id,
        Delivery.subscriber_id == Subscriber.id,
        Delivery.state != DeliveryState.SKIPPED.value,
    )
