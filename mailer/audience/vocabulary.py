"""The tags and attributes that segments can select by."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, select

from mailer.database.tables import Subscriber, SubscriberTag
from mailer.errors import RefusedError

_MAX_NAMED: Final = 20
_SAMPLE: Final = 1_000


def empty_audience(connection: Connection, segment: str) -> RefusedError:
    """Return the error for an issue that nobody would get; for a segment, it suggests what to select by."""
    if not segment:
        return RefusedError(
            "nobody would get it: the audience is empty", remedy="mailer subscribers import FILE"
        )
    tags = connection.scalars(
        select(SubscriberTag.c.tag).distinct().order_by(SubscriberTag.c.tag).limit(_MAX_NAMED)
    )
    sample = connection.scalars(
        select(Subscriber.c.attributes).order_by(Subscriber.c.id.desc()).limit(_SAMPLE)
    )
    attributes = sorted({key for one in sample for key in one})[:_MAX_NAMED]
    said = f"the tags are: {', '.join(tags) or 'none'}; the attributes are: {', '.join(attributes) or 'none'}"
    return RefusedError(f"nobody would get it: no active subscriber matches {segment}", remedy=said)
