"""Whether the issue's templates can be filled for every subscriber of an audience."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from mailer.database.models import Subscriber, SubscriberTag
from mailer.delivery.issues import audience
from mailer.errors import RecipientError
from mailer.rendering.message import Composer, Recipient

_AT_ONCE: Final = 1_000
MAX_EXAMPLES: Final = 3


@dataclass(slots=True)
class Unfit:
    """The subscribers whose mail cannot be composed for one reason."""

    field: str
    """As the template names it: `subscriber.city`."""
    reason: str
    """What was said of the first of them."""
    count: int = 0
    examples: list[str] = dataclasses.field(default_factory=list)
    """Some of their addresses."""


def unfit(
    session: Session, composer: Composer, condition: ColumnElement[bool] | None, *, at: datetime
) -> tuple[int, list[Unfit]]:
    """Compose the issue for everybody who would get it; return how many, and who cannot.

    Nothing is kept of those who fit; a million subscribers need no more memory than a thousand.
    """
    checked = 0
    found: dict[str, Unfit] = {}
    for recipient in everybody(session, audience(condition, at=at)):
        checked += 1
        try:
            composer.compose(recipient, at)
        except RecipientError as error:
            one = found.setdefault(error.field, Unfit(error.field, error.message))
            one.count += 1
            if len(one.examples) < MAX_EXAMPLES:
                one.examples.append(recipient.email)
    return checked, sorted(found.values(), key=lambda one: -one.count)


def everybody(session: Session, who: ColumnElement[bool]) -> Iterator[Recipient]:
    """Yield the subscribers `who` as templates see them, in the order of their ids."""
    columns = select(Subscriber.id, Subscriber.address, Subscriber.name, Subscriber.attributes)
    after = 0
    while True:
        page = columns.where(who, Subscriber.id > after).order_by(Subscriber.id).limit(_AT_ONCE)
        rows = session.execute(page).all()
        if not rows:
            return
        after = rows[-1].id
        tags: dict[int, list[str]] = {}
        wanted = select(SubscriberTag.subscriber_id, SubscriberTag.tag).where(
            SubscriberTag.subscriber_id.between(rows[0].id, after)
        )
        for subscriber_id, tag in session.execute(wanted.order_by(SubscriberTag.tag)):
            tags.setdefault(subscriber_id, []).append(tag)
        for row in rows:
            yield Recipient(row.id, row.address, row.name, row.attributes, tuple(tags.get(row.id, ())))
