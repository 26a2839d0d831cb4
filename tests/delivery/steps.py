"""Steps of sequences for tests, which need no files and no rendering."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path

from sqlalchemy import Connection, select, update

from mailer.database.tables import Delivery, DeliveryState, Subscriber
from mailer.delivery.issues import mailable
from mailer.delivery.sequences.files import WrittenStep, slug_of
from mailer.rendering.source.front_values import Timing
from tests.delivery.scene import EDITION

NAME = "welcome"


def step(
    name: str,
    days: float = 0,
    *,
    at: time | None = None,
    on: tuple[int, ...] = (),
    only: str = "",
    text: str = "",
    source: str = "",
) -> WrittenStep:
    """Return a step that is sent so many days after the one before."""
    edition = replace(
        EDITION, slug=slug_of(NAME, name), title=name, text=text or name, made_of={"source": source or name}
    )
    return WrittenStep(name, Path(f"{name}.md"), Timing(timedelta(days=days), at, on, only), edition)


def settle_all(connection: Connection, *, at: datetime) -> list[tuple[int, int]]:
    """Do what a run does with what is queued: send it to those who may be mailed, and skip the others.

    Returns the issue and the subscriber of each message.
    """
    allowed = select(Subscriber.c.id).where(mailable(at))
    queued = Delivery.c.state == DeliveryState.QUEUED.value
    sent = connection.execute(
        update(Delivery)
        .where(queued, Delivery.c.subscriber_id.in_(allowed))
        .values(state=DeliveryState.SENT.value, changed_at=at)
        .returning(Delivery.c.issue_id, Delivery.c.subscriber_id)
    ).all()
    connection.execute(
        update(Delivery).where(queued).values(state=DeliveryState.SKIPPED.value, changed_at=at)
    )
    return [(row[0], row[1]) for row in sent]
