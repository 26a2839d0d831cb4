"""Export subscribers as CSV or JSON Lines, a batch at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TextIO

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    cast,
    func,
    select,
    text,
    true,
    type_coerce,
)

from mailer.audience.subscribers import SubscriberView, view
from mailer.audience.transfer.presets import JSON_COLUMN, OWN_HEADER
from mailer.audience.transfer.rejects import plain_cell, safe_cell, safe_cells
from mailer.database.tables import Subscriber, SubscriberStatus, SubscriberTag

_BATCH = 1_000
_LINE_END = "\r\n"
_QUOTED = ('"', ",", "\n", "\r")
# Erased people are not exported; only their deliveries are left.
_KEPT = Subscriber.c.status != SubscriberStatus.ERASED.value
# An import takes at most 200 columns.
_MAX_FLAT = 190
_MAX_KNOWN = 4_000
# Many subscribers have the same attributes, and parsing a text costs more than comparing it.
_KEYS_SQLITE = text(
    "SELECT DISTINCT a.key, a.type, a.type = 'text' AND a.value = '' "
    "FROM (SELECT DISTINCT attributes FROM subscribers WHERE attributes <> '{}') AS s, "
    "json_each(s.attributes) AS a"
)
_KEYS_POSTGRESQL = text(
    "SELECT DISTINCT a.key, json_typeof(a.value), a.value::text = '\"\"' "
    "FROM subscribers, json_each(subscribers.attributes) AS a WHERE subscribers.attributes::text <> '{}'"
)
# The stored text: parsing it and writing it again would cost more than the rest of the export.
_ATTRIBUTES = type_coerce(cast(Subscriber.c.attributes, Text), Text)
_JOINED = type_coerce(Subscriber.c.created_at, BigInteger)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_from_json = msgspec.json.Decoder(dict[str, Any]).decode
_to_json = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class _Columns:
    """A batch of subscribers, by column: working on whole columns is faster than row by row."""

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
    connection: Connection, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield subscribers by id. They are read a thousand at a time, so memory stays small."""
    for batch in _batches(connection, condition, limit=limit):
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
    connection: Connection, condition: ColumnElement[bool] | None, *, limit: int = 0
) -> Iterator[_Columns]:
    after = 0
    left = limit
    columns = (
        Subscriber.c.id,
        Subscriber.c.address,
        Subscriber.c.name,
        Subscriber.c.status,
        _JOINED,
        _ATTRIBUTES,
    )
    wanted = select(*columns).where(_KEPT).order_by(Subscriber.c.id)
    if condition is not None:
        wanted = wanted.where(condition)
    while True:
        size = min(_BATCH, left) if limit else _BATCH
        found = connection.execute(wanted.where(Subscriber.c.id > after).limit(size)).all()
        if not found:
            return
        ids, addresses, names, statuses, joined, attributes = zip(*found, strict=True)
        tags = _tags(connection, ids[0], ids[-1])
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
    """Return an instant as ISO 8601. Cached, since everyone in an import has the same one."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _readable(attributes: Sequence[str]) -> Sequence[str]:
    """Return each JSON text without the ASCII escapes that it is stored with."""
    if "\\" not in "".join(attributes):
        return attributes
    return [_to_json(json.loads(one)) if "\\" in one else one for one in attributes]


def views(
    connection: Connection, condition: ColumnElement[bool] | None, *, after: int, limit: int
) -> list[SubscriberView]:
    """Return up to `limit` subscribers whose id is above `after`, by id."""
    found = connection.execute(
        select(Subscriber)
        .where(Subscriber.c.id > after, _KEPT, true() if condition is None else condition)
        .order_by(Subscriber.c.id)
        .limit(limit)
    ).all()
    tags = _tags(connection, found[0].id, found[-1].id) if found else {}
    return [view(known, tags.get(known.id, ())) for known in found]


def write_csv(
    connection: Connection, target: TextIO, condition: ColumnElement[bool] | None, *, flat: bool = True
) -> int:
    """Write subscribers as CSV and return how many. No spreadsheet runs a cell as a formula.

    With `flat`, each attribute gets its own column; otherwise one column holds all of them as JSON. Values
    that a text column cannot represent exactly, such as an empty text, stay in the JSON.
    """
    flattened = _flattened(connection) if flat else _Flattened((), frozenset(), rest=True)
    header = [*OWN_HEADER, *flattened.headings, *(["attributes"] if flattened.rest else [])]
    target.write(",".join(quoted(safe_cells(header))) + _LINE_END)
    number = 0
    for batch in _batches(connection, condition):
        # Statuses, dates and JSON objects cannot begin a formula; statuses and dates need no quotes either.
        lines = zip(
            quoted(safe_cells(batch.addresses)),
            quoted(safe_cells(batch.names)),
            batch.statuses,
            quoted(safe_cells(_tag_cells(batch.tags))),
            batch.joined,
            *([flattened.cells(batch.attributes)] if flattened.has_cells else []),
            strict=True,
        )
        target.write("".join([",".join(line) + _LINE_END for line in lines]))
        number += len(batch.addresses)
    return number


@dataclass(frozen=True, slots=True)
class _Flattened:
    """The attributes that get their own column, and whether others remain."""

    keys: tuple[str, ...]
    typed: frozenset[str]
    """Attributes with values other than text; their cells are JSON."""
    rest: bool
    _known: dict[str, str] = field(default_factory=dict)
    """The cells of the combinations of attributes seen last: many subscribers share one."""

    @property
    def has_cells(self) -> bool:
        return bool(self.keys) or self.rest

    @property
    def headings(self) -> list[str]:
        return [key + JSON_COLUMN if key in self.typed else key for key in self.keys]

    def cells(self, attributes: Sequence[str]) -> Sequence[str]:
        """Return the cells of each subscriber's attributes, joined with commas."""
        if not self.keys:
            return quoted(attributes)
        new = [one for one in dict.fromkeys(attributes) if one not in self._known]
        if new:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
                new = list(dict.fromkeys(attributes))
            self._known.update(zip(new, map(",".join, zip(*self._columns(new), strict=True)), strict=True))
        return [self._known[one] for one in attributes]

    def _columns(self, attributes: Sequence[str]) -> list[Sequence[str]]:
        """Return the cells by column; the last column has the remaining attributes as JSON."""
        parsed = [_from_json(one) for one in attributes]
        found: list[Sequence[str]] = []
        for key in self.keys:
            # An empty text or null stays in the JSON.
            if key in self.typed:
                cells = [_to_json(one.pop(key)) if _fits_json(one.get(key)) else "" for one in parsed]
            else:
                cells = [one.pop(key) if one.get(key) else "" for one in parsed]
            found.append(quoted(safe_cells(cells)))
        return [*found, quoted([_to_json(one) for one in parsed])] if self.rest else found


def _flattened(connection: Connection) -> _Flattened:
    """Return which attributes get columns: those with names and values that a column can hold."""
    keys: set[str] = set()
    typed: set[str] = set()
    rest = False
    statement = _KEYS_SQLITE if connection.dialect.name == "sqlite" else _KEYS_POSTGRESQL
    for key, kind, is_empty in connection.execute(statement):
        if is_empty or kind == "null" or not _can_be_heading(key):
            rest = True
        else:
            keys.add(key)
            if kind not in ("text", "string"):
                typed.add(key)
    if len(keys) > _MAX_FLAT:
        return _Flattened((), frozenset(), rest=True)
    return _Flattened(tuple(sorted(keys)), frozenset(typed), rest)


def _can_be_heading(key: str) -> bool:
    plain = (
        key == key.strip()
        and not key.endswith(JSON_COLUMN)
        and plain_cell(key) == key
        and safe_cell(key) == key
    )
    return plain and key not in (*OWN_HEADER, "attributes")


def _fits_json(value: object) -> bool:
    return value is not None and value != ""


def quoted(values: Sequence[str]) -> Sequence[str]:
    """Return a column of cells, quoted where necessary, as `csv.writer` would (RFC 4180).

    It works on whole columns, since `csv.writer` would take longer than reading the rows.
    """
    together = "".join(values)
    if not any(mark in together for mark in _QUOTED):
        return values
    return [
        '"' + value.replace('"', '""') + '"'
        if '"' in value or "," in value or "\n" in value or "\r" in value
        else value
        for value in values
    ]


def write_json_lines(connection: Connection, target: TextIO, condition: ColumnElement[bool] | None) -> int:
    """Write subscribers as JSON Lines, one object per line, and return how many."""
    number = 0
    for batch in _batches(connection, condition):
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


def count(connection: Connection, condition: ColumnElement[bool] | None) -> int:
    """Return how many subscribers meet the condition."""
    wanted = select(func.count()).select_from(Subscriber)
    return connection.scalar(wanted.where(_KEPT, true() if condition is None else condition)) or 0


def _tags(connection: Connection, first: int, last: int) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    wanted = select(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag).where(
        SubscriberTag.c.subscriber_id.between(first, last)
    )
    for subscriber_id, tag in connection.execute(
        wanted.order_by(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag)
    ):
        found.setdefault(subscriber_id, []).append(tag)
    return found
