"""The tags and attributes that segments can select by."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from mailer.database.models import Subscriber, SubscriberTag
from mailer.errors import RefusedError

_MAX_NAMED: Final = 20
_SAMPLE: Final = 1_000


def empty_audience(session: Session, segment: str) -> RefusedError:
    """Return the error for an issue that nobody would get; for a segment, it suggests what to select by."""
    if not segment:
        return RefusedError(
            "nobody would get it: the audience is empty", remedy="mailer subscribers import FILE"
        )
    tags = session.scalars(select(SubscriberTag.tag).distinct().order_by(SubscriberTag.tag).limit(_MAX_NAMED))
    sample = session.scalars(select(Subscriber.attributes).order_by(Subscriber.id.desc()).limit(_SAMPLE))
    attributes = sorted({key for one in sample for key in one})[:_MAX_NAMED]
    said = f"the tags are: {', '.join(tags) or 'none'}; the attributes are: {', '.join(attributes) or 'none'}"
    return RefusedError(f"nobody would get it: no active subscriber matches {segment}", remedy=said)
