"""Subscribers as CSV or JSON Lines, row by row, however many there are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TextIO

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func, select, true, type_coerce
from sqlalchemy.orm import Session

from mailer.audience.subscribers import SubscriberView, view
from mailer.audience.transfer.rejects import safe_cells
from mailer.database.models import Subscriber, SubscriberStatus, SubscriberTag

_BATCH = 1_000
_LINE_END = "\r\n"
_QUOTED = ('"', ",", "\n", "\r")
# What is left of an erased person is no subscriber to anybody.
_KEPT = Subscriber.status != SubscriberStatus.ERASED.value
_HEADER = ("email", "name", "status", "tags", "joined", "attributes")
# The text as it lies in the database: to read it and write it again would cost more than all the rest.
_ATTRIBUTES = type_coerce(cast(Subscriber.attributes, Text), Text)
_JOINED = type_coerce(Subscriber.created_at, BigInteger)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_to_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class _Columns:
    """A thousand subscribers, column by column: what is done to a whole column costs no turn a row."""

    addresses: Sequence[str]
    names: Sequence[str]
    statuses: Sequence[str]
    tags: Sequence[Sequence[str]]
    joined: Sequence[str]
    attributes: Sequence[str]
    """As JSON."""

    def rows(self) -> Iterator[tuple[str, str, str, Sequence[str], str, str]]:
        return zip(
            self.addresses, self.names, self.statuses, self.tags, self.joined, self.attributes, strict=True
        )


def rows(
    session: Session, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield subscribers by id, a thousand at a time: memory does not grow with their number."""
    for batch in _batches(session, condition, limit=limit):
        for address, name, status, tags, joined, attributes in batch.rows():
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
) -> Iterator[_Columns]:
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
        ids, addresses, names, statuses, joined, attributes = zip(*found, strict=True)
        tags = _tags(session, ids[0], ids[-1])
        yield _Columns(
            addresses,
            names,
            statuses,
            [tags.get(number, ()) for number in ids] if tags else [()] * len(ids),
            list(map(_day_and_time, joined)),
            _readable(attributes),
        )
        after, left = ids[-1], left - len(ids)
        if len(found) < size or (limit and left <= 0):
            return


@lru_cache(maxsize=4096)
def _day_and_time(microseconds: int) -> str:
    """Return an instant as ISO 8601; whoever came with one import came at one instant."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _readable(attributes: Sequence[str]) -> Sequence[str]:
    """Return each JSON text with every letter as itself: it is stored with the escapes of ASCII."""
    if "\\" not in "".join(attributes):
        return attributes
    return [_to_json(json.loads(one)) if "\\" in one else one for one in attributes]


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
    target.write(",".join(_HEADER) + _LINE_END)
    number = 0
    for batch in _batches(session, condition):
        # A status, a date and an object in braces begin no formula; the first two need no quotes either.
        lines = zip(
            quoted(safe_cells(batch.addresses)),
            quoted(safe_cells(batch.names)),
            batch.statuses,
            quoted(safe_cells(_tag_cells(batch.tags))),
            batch.joined,
            quoted(batch.attributes),
            strict=True,
        )
        target.write("".join([",".join(line) + _LINE_END for line in lines]))
        number += len(batch.addresses)
    return number


def quoted(values: Sequence[str]) -> Sequence[str]:
    """Return a column of cells, each in quotes if it needs them, as `csv.writer` would (RFC 4180).

    Whole columns, because a million lines of `csv.writer` cost more than reading them.
    """
    text = "".join(values)
    if not any(mark in text for mark in _QUOTED):
        return values
    return [
        '"' + value.replace('"', '""') + '"'
        if '"' in value or "," in value or "\n" in value or "\r" in value
        else value
        for value in values
    ]


def write_json_lines(session: Session, target: TextIO, condition: ColumnElement[bool] | None) -> int:
    """Write subscribers as one JSON object a line and return how many."""
    number = 0
    for batch in _batches(session, condition):
        target.writelines(
            f'{{"email": {_to_json(address)}, "name": {_to_json(name)}, "status": "{status}", '
            f'"tags": {_to_json(tags)}, "joined": "{joined}", "attributes": {attributes}}}\n'
            for address, name, status, tags, joined, attributes in batch.rows()
        )
        number += len(batch.addresses)
    return number


def _tag_cells(tags: Sequence[Sequence[str]]) -> Sequence[str]:
    return list(map(_tag_cell, tags)) if any(tags) else [""] * len(tags)


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
