"""An IN condition whose ids are one parameter, as JSON.

SQLAlchemy's `in_` binds each id separately and compiles a new statement for every length of the list, which
takes longer than executing it. psycopg would turn each element of an array into text in Python, which takes
longer than finding its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import json
from sqlalchemy import ColumnElement, Dialect, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NULLTYPE, TypeDecorator


class _Ids(TypeDecorator[Sequence[int]]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> str | None:
        return None if value is None else json.encode(value).decode()


_IDS: Final = _Ids()


class _Among(FunctionElement[bool]):
    # Not Boolean: SQLAlchemy would append `= 1`, and SQLite would scan the whole table.
    type = NULLTYPE  # type: ignore[assignment]
    inherit_cache = True


def among(column: Any, name: str) -> ColumnElement[bool]:
    """Return the condition that a column's value is in the list of integers bound as `name`."""
    return _Among(column, bindparam(name, type_=_IDS))


@compiles(_Among)
def _sqlite(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(part, **options) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - placeholders


@compiles(_Among, "postgresql")
def _postgresql(element: _Among, compiler: Any, **options: Any) -> str:
    column, ids = (compiler.process(part, **options) for part in element.clauses)
    # The planner assumes that a subquery returns a short list. Knowing that there are a few hundred ids, it
    # would scan a table of some ten thousand rows and compare each row with each id.
    return f"{column} = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST({ids} AS json)) AS bigint)))"
