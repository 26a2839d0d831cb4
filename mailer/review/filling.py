"""Checking whether an issue can be composed for its whole audience."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct
from sqlalchemy import JSON, ColumnElement, Connection, ScalarSelect, cast, func, literal, select

from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import Subscriber
from mailer.delivery import editions
from mailer.delivery.issues import audience
from mailer.delivery.recipients import recipient_of, tags_of
from mailer.errors import RecipientError, RefusedError
from mailer.rendering.edition import Edition
from mailer.rendering.message import Composer, Recipient

_AT_ONCE: Final = 1_000
_GROUPED_AT_ONCE: Final = 50_000
_MAX_SHAPES: Final = 1_000
_MAX_KNOWN_SHAPES: Final = 10_000
MAX_EXAMPLES: Final = 3
_SAMPLE: Final = 1_000
"""How many subscribers an issue is composed for as a check, before it is queued."""


class Unfit(Struct):
    """Subscribers whose message cannot be composed, all for the same reason."""

    field: str
    """The field, as templates name it: `subscriber.city`."""
    reason: str
    """The error for the first of them."""
    count: int = 0
    examples: list[str] = msgspec.field(default_factory=list)
    """Some of their addresses."""


class _Shape(Struct):
    """The subscribers who have the same attributes, of the same types."""

    example: int
    """The id of one of them."""
    count: int


def compose_some(
    settings: Settings,
    database: Database,
    edition: Edition,
    condition: ColumnElement[bool] | None,
    *,
    undone: str = "nothing was queued",
) -> None:
    """Raise `RefusedError` if the issue cannot be composed for a sample of the audience.

    The error says what was not done (`undone`).
    """
    for arm in edition.arms:
        compose_some(settings, database, arm, condition, undone=undone)
    unsigned = msgspec.structs.replace(settings, dkim=())
    composer = editions.composer(unsigned, edition, editions.ANY_ISSUE, editions.POWERLESS)
    with database.reading() as connection:
        checked, found = unfit(connection, composer, condition, at=datetime.now(UTC), sample=_SAMPLE)
    if not found:
        return
    worst = found[0]
    many = f"{worst.count:,} of a sample of {checked:,} subscribers, such as {worst.examples[0]}"
    missing = worst.field.startswith("subscriber.") and "is missing" in worst.reason
    raise RefusedError(
        f"{f'{worst.field!r} is missing for' if missing else f'{worst.reason}:'} {many}; {undone}",
        remedy=f'write {{{{ {worst.field} | default("…") }}}}, or send it to everyone else with --no-lint'
        if missing
        else f"list them with: mailer lint {edition.slug} --audience",
    )


def unfit(
    connection: Connection,
    composer: Composer,
    condition: ColumnElement[bool] | None,
    *,
    at: datetime,
    sample: int | None = None,
) -> tuple[int, list[Unfit]]:
    """Compose the issue for the audience; return how many were checked, and the failures by field.

    `sample` limits this to that many random subscribers, and one of each shape: the subscribers who have
    the same attributes, of the same types. Memory does not grow with the audience.
    """
    checked = 0
    found: dict[str, Unfit] = {}
    who = audience(condition, at=at)
    if sample is not None:
        who = Subscriber.c.id.in_(_sampled(connection, who, sample))
    for recipient in everybody(connection, who):
        checked += 1
        try:
            composer.compose(recipient, at)
        except RecipientError as error:
            one = found.setdefault(error.field, Unfit(error.field, error.message))
            one.count += 1
            if len(one.examples) < MAX_EXAMPLES:
                one.examples.append(recipient.email)
    return checked, sorted(found.values(), key=lambda one: -one.count)


def _sampled(connection: Connection, who: ColumnElement[bool], number: int) -> set[int]:
    """Return the ids of `number` random subscribers, and of one for each shape (up to `_MAX_SHAPES`)."""
    chosen = connection.scalars(select(Subscriber.c.id).where(who).order_by(func.random()).limit(number))
    return {*chosen, *_rarest(_one_for_each_shape(connection, who))}


def _one_for_each_shape(
    connection: Connection, who: ColumnElement[bool]
) -> dict[tuple[object, bool], _Shape]:
    """Return the shapes of the audience.

    Each query covers a range of ids, since SQLite sorts the rows of a query in memory.
    """
    shape, unnamed = _shape(connection), Subscriber.c.name == ""
    grouped = (
        select(shape, unnamed, func.min(Subscriber.c.id), func.count()).where(who).group_by(shape, unnamed)
    )
    found: dict[tuple[object, bool], _Shape] = {}
    last = connection.scalar(select(func.max(Subscriber.c.id))) or 0
    for after in range(0, last, _GROUPED_AT_ONCE):
        within = Subscriber.c.id.between(after + 1, after + _GROUPED_AT_ONCE)
        for keys, nameless, one, many in connection.execute(grouped.where(within)):
            if (known := found.get((keys, nameless))) is not None:
                known.count += many
            elif len(found) < _MAX_KNOWN_SHAPES:
                found[keys, nameless] = _Shape(one, many)
    return found


def _rarest(shapes: dict[tuple[object, bool], _Shape]) -> list[int]:
    """Return one subscriber of each of the rarest shapes, up to `_MAX_SHAPES`."""
    ordered = sorted(shapes.values(), key=lambda one: one.count)
    return [one.example for one in ordered[:_MAX_SHAPES]]


def _shape(connection: Connection) -> ScalarSelect[str]:
    """Return the names of a subscriber's attributes, with their types, as one text."""
    if connection.dialect.name == "postgresql":
        each = func.json_each(Subscriber.c.attributes).table_valued("key", "value").alias("each")
        kind = func.json_typeof(cast(each.c.value, JSON))
        joined = func.string_agg(each.c.key + literal(" ") + kind, literal("\n"))
    else:
        each = func.json_each(Subscriber.c.attributes).table_valued("key", "type").alias("each")
        joined = func.group_concat(each.c.key + literal(" ") + each.c.type, literal("\n"))
    return select(joined).select_from(each).correlate(Subscriber).scalar_subquery()


def everybody(connection: Connection, who: ColumnElement[bool]) -> Iterator[Recipient]:
    """Yield the subscribers `who` as templates see them, in the order of their ids."""
    columns = select(Subscriber.c.id, Subscriber.c.address, Subscriber.c.name, Subscriber.c.attributes)
    after = 0
    while True:
        page = columns.where(who, Subscriber.c.id > after).order_by(Subscriber.c.id).limit(_AT_ONCE)
        rows = connection.execute(page).all()
        if not rows:
            return
        after = rows[-1].id
        tags = tags_of(connection, [row.id for row in rows])
        for row in rows:
            yield recipient_of(row.id, row, tags)
