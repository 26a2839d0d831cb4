"""Subscribers as CSV or JSON Lines, row by row, however many there are."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, TextIO

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session

from mailer.audience.importing import safe_cell
from mailer.audience.subscribers import SubscriberView, view
from mailer.database.models import Subscriber, SubscriberStatus, SubscriberTag

_BATCH = 5_000
# What is left of an erased person is no subscriber to anybody.
_KEPT = Subscriber.status != SubscriberStatus.ERASED.value
_HEADER = ("email", "name", "status", "tags", "joined", "attributes")


def rows(
    session: Session, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield subscribers by id, some thousand at a time: memory does not grow with their number."""
    after = 0
    left = limit
    while True:
        batch = session.execute(
            select(
                Subscriber.id,
                Subscriber.address,
                Subscriber.name,
                Subscriber.status,
                Subscriber.created_at,
                Subscriber.attributes,
            )
            .where(Subscriber.id > after, _KEPT, true() if condition is None else condition)
            .order_by(Subscriber.id)
            .limit(min(_BATCH, left) if limit else _BATCH)
        ).all()
        if not batch:
            return
        tags = _tags(session, batch[0].id, batch[-1].id)
        for row in batch:
            yield {
                "email": row.address,
                "name": row.name,
                "status": row.status,
                "tags": tags.get(row.id, []),
                "joined": row.created_at.isoformat(),
                "attributes": row.attributes,
            }
        after, left = batch[-1].id, left - len(batch)
        if limit and left <= 0:
            return


def views(
    session: Session, condition: ColumnElement[bool] | None, *, after: int, limit: int
) -> list[SubscriberView]:
    """Return up to `limit` subscribers whose id is above `after`, by id."""
    found = session.scalars(
        select(Subscriber)
        .where(Subscriber.id > after, _KEPT, true() if condition is None else condition)
        .order_by(Subscriber.id)
        .limit(limit)
    ).all()
    tags = _tags(session, found[0].id, found[-1].id) if found else {}
    return [view(known, tags.get(known.id, ())) for known in found]


def write_csv(session: Session, target: TextIO, condition: ColumnElement[bool] | None) -> int:
    """Write subscribers as CSV and return how many; no cell can be run as a formula by a spreadsheet."""
    writer = csv.writer(target)
    writer.writerow(_HEADER)
    number = 0
    for number, row in enumerate(rows(session, condition), 1):  # noqa: B007 - the count is the result
        attributes = json.dumps(row["attributes"], ensure_ascii=False, sort_keys=True)
        cells = (row["email"], row["name"], row["status"], ",".join(row["tags"]), row["joined"], attributes)
        writer.writerow([safe_cell(cell) for cell in cells])
    return number


def write_json_lines(session: Session, target: TextIO, condition: ColumnElement[bool] | None) -> int:
    """Write subscribers as one JSON object a line and return how many."""
    number = 0
    for number, row in enumerate(rows(session, condition), 1):  # noqa: B007 - the count is the result
        target.write(json.dumps(row, ensure_ascii=False) + "\n")
    return number


def count(session: Session, condition: ColumnElement[bool] | None) -> int:
    """Return how many subscribers meet the condition."""
    wanted = select(func.count()).select_from(Subscriber)
    return session.scalar(wanted.where(_KEPT, true() if condition is None else condition)) or 0


def _tags(session: Session, first: int, last: int) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    wanted = select(SubscriberTag.subscriber_id, SubscriberTag.tag).where(
        SubscriberTag.subscriber_id.between(first, last)
    )
    for subscriber_id, tag in session.execute(
        wanted.order_by(SubscriberTag.subscriber_id, SubscriberTag.tag)
    ):
        found.setdefault(subscriber_id, []).append(tag)
    return found
