"""The segment language, compiled to SQLAlchemy conditions.

Example: `tag:vip and country = "RO" and not domain:gmail.com`. Every value becomes a bound parameter, so
no input becomes SQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from typing import Any, Final

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, UnexpectedToken, VisitError
from sqlalchemy import (
    ColumnElement,
    Float,
    ScalarSelect,
    String,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    not_,
    or_,
    select,
)

from mailer.database.tables import (
    Delivery,
    DeliveryState,
    Event,
    StoredIssue,
    Subscriber,
    SubscriberStatus,
    SubscriberTag,
)
from mailer.errors import SegmentError

_GRAMMAR: Final = r"""
    ?start: either
    ?either: both ("or"i both)*
    ?both: term ("and"i term)*
    ?term: "not"i term -> negated
         | "(" either ")"
         | "@" WORD -> saved
         | WORD ":" (WORD | STRING) -> labelled
         | (WORD | STRING) OPERATOR value -> compared
    ?value: STRING -> text | DATE -> day | NUMBER -> number | BOOLEAN -> truth
    OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">" | "~"
    BOOLEAN.3: /(true|false)\b/i
    DATE.2: /\d{4}-\d{2}-\d{2}(?![\w.-])/
    NUMBER.1: /-?\d+(\.\d+)?(?![\w.-])/
    WORD: /(?!(and|or|not)\b)[\w][\w.@+-]*/i
    STRING: /"(\\.|[^"\\])*"/
    %ignore /\s+/
"""
_MAX_LENGTH: Final = 2_000
_MAX_DEPTH: Final = 50
_MAX_SAVED_DEPTH: Final = 5
# Well within the range of a double: PostgreSQL raises an error beyond it, and the attribute of one person
# must not break a segment.
_DECIMAL: Final = r"^-?[0-9]{1,100}(\.[0-9]{1,100})?([eE][+-]?(1?[0-9])?[0-9])?$"
# Characters that databases reject: NUL and lone surrogates.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")
_LABELS: Final = {
    "tag": "vip", "domain": "example.org", "status": "active", "opened": "001-hello", "clicked": "001-hello",
    "sent": "001-hello", "has": "country",
}  # fmt: skip
"""The words allowed before a colon, each with an example of a value."""
_COLUMNS: Final = {
    "name": Subscriber.c.name,
    "email": Subscriber.c.address_key,
    "domain": Subscriber.c.domain,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the audience: its text, and the condition on `Subscriber`."""

    text: str
    condition: ColumnElement[bool]


def parse_segment(text: str, saved: Mapping[str, str], *, _depth: int = 0) -> Segment:
    """Return the segment that `text` describes; `@name` refers to one of the `saved` segments.

    Raises `SegmentError`, which points at the column of a mistake.
    """
    if len(text) > _MAX_LENGTH or text.count("(") + text.lower().count("not") > _MAX_DEPTH:
        raise SegmentError(f"the segment is too long or nested too deeply: {text[:60]}…")
    if odd := _UNSTORABLE.search(text):
        raise _at(
            _UNSTORABLE.sub("\ufffd", text), odd.start() + 1, "this character is not allowed in a segment"
        )
    try:
        condition = _Conditions(text, saved, _depth).transform(_parser().parse(text))
    except UnexpectedInput as error:
        at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        column = len(text) + 1 if at_end else error.column
        raise _at(text, column, _reason(text, column)) from error
    except VisitError as error:
        raise error.orig_exc from error
    return Segment(text, condition)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr")


def _reason(text: str, column: int) -> str:
    """Return the error at a column (from 1), with a hint for common mistakes."""
    before, rest = text[: column - 1].rstrip(), text[column - 1 :]
    word = re.match(r"[\w@.+-]+", rest)
    if not rest:
        return "something is missing at the end"
    if rest.startswith("'"):
        return "use double quotes for text"
    if rest.startswith(("&", "|")):
        return "write 'and' or 'or'"
    if rest.startswith("=") and before.endswith("="):
        return "write one '='"
    if word and before.endswith(("=", "<", ">", "~", ":")):
        return f'put text in quotes: "{word[0]}"'
    return "this is not allowed here"


def _at(text: str, column: int, problem: str) -> SegmentError:
    return SegmentError(
        f"column {column}: {problem}\n  {text}\n  {' ' * (column - 1)}^",
        remedy='write for example: tag:vip and country = "RO" and joined > 2026-01-01',
    )


class _Conditions(Transformer[Token, ColumnElement[bool]]):
    """Turns the parse tree into conditions, from the leaves up."""

    def __init__(self, text: str, saved: Mapping[str, str], depth: int) -> None:
        super().__init__()
        self._text = text
        self._saved = saved
        self._depth = depth

    def _mistake(self, token: Token, problem: str) -> SegmentError:
        # Only a token that no text has is without a column.
        return _at(self._text, token.column or 1, problem)

    def either(self, terms: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return or_(*terms)

    def both(self, terms: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return and_(*terms)

    def negated(self, terms: list[ColumnElement[bool]]) -> ColumnElement[bool]:
        return not_(terms[0])

    def saved(self, tokens: list[Token]) -> ColumnElement[bool]:
        name = tokens[0]
        if name not in self._saved:
            known = ", ".join(sorted(self._saved)) or "none"
            raise self._mistake(name, f"no saved segment '{name}' (known: {known})")
        if self._depth >= _MAX_SAVED_DEPTH:
            raise self._mistake(name, "saved segments refer to each other in a loop")
        return parse_segment(self._saved[name], self._saved, _depth=self._depth + 1).condition

    def labelled(self, tokens: list[Token]) -> ColumnElement[bool]:
        label, value = tokens[0].lower(), _unquoted(tokens[1])
        if label == "tag":
            return exists().where(
                SubscriberTag.c.subscriber_id == Subscriber.c.id, SubscriberTag.c.tag == value
            )
        if label == "domain":
            return Subscriber.c.domain == value.lower()
        if label == "status":
            if value not in list(SubscriberStatus):
                known = ", ".join(SubscriberStatus)
                raise self._mistake(tokens[1], f"no status '{value}'; known: {known}")
            return Subscriber.c.status == value
        if label in ("opened", "clicked"):
            return _reacted(value, "open" if label == "opened" else "click")
        if label == "sent":
            return exists().where(
                Delivery.c.subscriber_id == Subscriber.c.id,
                Delivery.c.issue_id == _issue_id(value),
                Delivery.c.state == DeliveryState.SENT.value,
            )
        if label == "has":
            return self._attribute(tokens[1]).is_not(None)
        raise self._mistake(tokens[0], f"unknown label '{label}:'; known: {', '.join(_LABELS)}")

    def compared(self, parts: list[Any]) -> ColumnElement[bool]:
        name, operator, value = parts
        if name == "joined":
            if not isinstance(value, date):
                raise self._mistake(name, "compare 'joined' with a date such as 2026-01-31")
            return _compare(Subscriber.c.created_at, operator, datetime.combine(value, time(), UTC))
        if name in _LABELS and name not in _COLUMNS:
            raise self._mistake(name, f"write '{name}' with a colon, such as {name}:{_LABELS[name]}")
        if name in _COLUMNS:
            return _compare(_COLUMNS[name], operator, str(value))
        # A quoted name is always an attribute.
        attribute = self._attribute(name)
        if isinstance(value, bool):
            return _compare(_truth(attribute), operator, int(value))
        if isinstance(value, float):
            return _compare(_number(attribute), operator, value)
        return _compare(attribute, operator, str(value))

    def _attribute(self, name: Token) -> ColumnElement[str]:
        key = _unquoted(name)
        if not key or not key.isprintable() or '"' in key or "\\" in key:
            # A JSON path in SQLite cannot contain a quotation mark.
            raise self._mistake(name, "an attribute with such a name cannot be used in a segment")
        found: ColumnElement[str] = Subscriber.c.attributes[key].as_string()
        return found

    def text(self, tokens: list[Token]) -> str:
        return _unquoted(tokens[0])

    def day(self, tokens: list[Token]) -> date:
        try:
            return date.fromisoformat(tokens[0])
        except ValueError as error:
            raise self._mistake(tokens[0], f"{tokens[0]} is not a date") from error

    def number(self, tokens: list[Token]) -> float:
        return float(tokens[0])

    def truth(self, tokens: list[Token]) -> bool:
        return tokens[0].lower() == "true"


def _reacted(slug: str, kind: str) -> ColumnElement[bool]:
    """Return whether a subscriber opened or clicked an issue: NULL if nobody can know.

    Events name only people who have agreed to tracking. By SQL's rules, `not` of NULL is NULL too, so those
    who had not agreed when the issue was sent match neither `clicked:` nor `not clicked:`.
    """
    by_a_person = Event.c.details["machine"].as_string().is_(None)
    reacted = exists().where(
        Event.c.subscriber_id == Subscriber.c.id,
        Event.c.kind == kind,
        Event.c.issue_id == _issue_id(slug),
        by_a_person,
    )
    sent_at = select(StoredIssue.c.dated_at).where(StoredIssue.c.slug == slug).scalar_subquery()
    in_time = or_(Subscriber.c.tracking_since.is_(None), Subscriber.c.tracking_since <= sent_at)
    return or_(reacted, case((and_(Subscriber.c.tracking_consent, in_time), false())))


def _issue_id(slug: str) -> ScalarSelect[int]:
    return select(StoredIssue.c.id).where(StoredIssue.c.slug == slug).scalar_subquery()


def _compare(column: Any, operator: str, value: object) -> ColumnElement[bool]:
    compared: ColumnElement[bool]
    match operator:
        case "=":
            compared = column == value
        case "!=":
            compared = or_(column.is_(None), column != value)
        case "<":
            compared = column < value
        case "<=":
            compared = column <= value
        case ">":
            compared = column > value
        case ">=":
            compared = column >= value
        case _:
            compared = cast(column, String).icontains(str(value), autoescape=True)
    return compared


def _number(attribute: ColumnElement[str]) -> ColumnElement[float | None]:
    # Numbers from a CSV file are text, and databases would not compare 9 and "10" as numbers.
    written = cast(attribute, String)
    return case((written.regexp_match(_DECIMAL), cast(written, Float)))


def _truth(attribute: ColumnElement[str]) -> ColumnElement[int | None]:
    # A JSON true is 1 in SQLite and 'true' in PostgreSQL; CSV files write it in several ways.
    written = func.lower(cast(attribute, String))
    return case((written.in_(["true", "yes", "1"]), 1), (written.in_(["false", "no", "0"]), 0))


def _unquoted(token: Token) -> str:
    if not token.startswith('"'):
        return str(token)
    return token[1:-1].replace('\\"', '"').replace("\\\\", "\\")
