"""Subscribers as CSV or JSON Lines, row by row, however many there are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TextIO

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func, select, true, type_coerce
from sqlalchemy.orm import Session

from mailer.audience.rejects import safe_cell
from mailer.audience.subscribers import SubscriberView, view
from mailer.database.models import Subscriber, SubscriberStatus, SubscriberTag

_BATCH = 5_000
# What is left of an erased person is no subscriber to anybody.
_KEPT = Subscriber.status != SubscriberStatus.ERASED.value
_HEADER = ("email", "name", "status", "tags", "joined", "attributes")
# The text as it lies in the database: to read it and write it again would cost more than all the rest.
_ATTRIBUTES = type_coerce(cast(Subscriber.attributes, Text), Text)
_JOINED = type_coerce(Subscriber.created_at, BigInteger)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_to_json = json.JSONEncoder(ensure_ascii=False).encode


_Exported = tuple[str, str, str, Sequence[str], str, str]
"""Address, name, status, tags, when they joined, and attributes as JSON: a plain tuple, of a million."""


def rows(
    session: Session, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield subscribers by id, some thousand at a time: memory does not grow with their number."""
    for batch in _batches(session, condition, limit=limit):
        for address, name, status, tags, joined, attributes in batch:
            yield {
                "email": address,
                "name": name,
                "status": status,
                "tags": list(tags),
                "joined": joined,
                "attributes": json.loads(attributes),
            }


def _batches(
    session: Session, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[list[_Exported]]:
    after = 0
    left = limit
    connection = session.connection()
    columns = (Subscriber.id, Subscriber.address, Subscriber.name, Subscriber.status, _JOINED, _ATTRIBUTES)
    wanted = select(*columns).where(_KEPT).order_by(Subscriber.id)
    if condition is not None:
        wanted = wanted.where(condition)
    while True:
        size = min(_BATCH, left) if limit else _BATCH
        found = connection.execute(wanted.where(Subscriber.id > after).limit(size)).all()
        if not found:
            return
        tags = _tags(session, found[0][0], found[-1][0])
        yield [
            (address, name, status, tags.get(number, ()), _day_and_time(joined), _readable(attributes))
            for number, address, name, status, joined, attributes in found
        ]
        after, left = found[-1][0], left - len(found)
        if len(found) < size or (limit and left <= 0):
            return


@lru_cache(maxsize=4096)
def _day_and_time(microseconds: int) -> str:
    """Return an instant as ISO 8601; whoever came with one import came at one instant."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _readable(attributes: str) -> str:
    """Return the JSON with every letter as itself: it is stored with the escapes of ASCII."""
    return _to_json(json.loads(attributes)) if "\\" in attributes else attributes


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
    for batch in _batches(session, condition):
        # A status, a date and an object in braces begin no formula.
        writer.writerows(
            [
                (safe_cell(address), safe_cell(name), status, safe_cell(_tag_cell(tags)), joined, attributes)
                for address, name, status, tags, joined, attributes in batch
            ]
        )
        number += len(batch)
    return number


def write_json_lines(session: Session, target: TextIO, condition: ColumnElement[bool] | None) -> int:
    """Write subscribers as one JSON object a line and return how many."""
    number = 0
    for batch in _batches(session, condition):
        target.writelines(
            f'{{"email": {_to_json(address)}, "name": {_to_json(name)}, "status": "{status}", '
            f'"tags": {_to_json(tags)}, "joined": "{joined}", "attributes": {attributes}}}\n'
            for address, name, status, tags, joined, attributes in batch
        )
        number += len(batch)
    return number


def _tag_cell(tags: Sequence[str]) -> str:
    """Return tags as `presets.split_tags` reads them: one with a comma or a quote is quoted."""
    if not tags:
        return ""
    if not any("," in tag or '"' in tag for tag in tags):
        return ",".join(tags)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(tags)
    return line.getvalue()


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
