"""An issue's numbers by mailbox provider, and the choice of providers whose people a page lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlencode

from markupsafe import Markup
from sqlalchemy import ColumnElement, not_
from starlette.datastructures import QueryParams

from mailer.audience.mailbox_providers import at_providers
from mailer.console.markup import Cell, link, table
from mailer.reports.progress import OTHERS

MOST: Final = 8
"""How many providers have a line of their own."""
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class Providers:
    """One mailbox provider, or all except some."""

    names: tuple[str, ...]
    excluded: bool = False

    @classmethod
    def asked(cls, query: QueryParams) -> Self | None:
        """Return the choice in the address of a page, if it has one."""
        for word, excluded in (("provider", False), ("not", True)):
            if names := query.getlist(word)[:MOST]:
                return cls(tuple(name[:_LONGEST] for name in names), excluded)
        return None

    @property
    def query(self) -> str:
        """The part of an address that `asked` reads."""
        return urlencode([("not" if self.excluded else "provider", name) for name in self.names])

    def condition(self, configured: Mapping[str, str]) -> ColumnElement[bool]:
        """Return the condition that selects their subscribers."""
        found = at_providers(self.names, configured)
        return not_(found) if self.excluded else found

    def __str__(self) -> str:
        return f"all except {', '.join(self.names)}" if self.excluded else ", ".join(self.names)


def provider_table(
    columns: Mapping[str, str], rows: Sequence[tuple[str, Sequence[int]]], *, wide: Sequence[int] = ()
) -> Markup:
    """Return the numbers of the largest providers, and of all others together, as links.

    `columns` gives for each heading the address of the people behind its numbers. A row has the name of a
    provider, empty for the others, and its numbers, the recipients first. The largest come first.
    """
    shown = [row for row in rows if row[0]][:MOST]
    rest = [row for row in rows if row not in shown]
    lines = [(name, Providers((name,)), numbers) for name, numbers in shown]
    if rest:
        sums = [sum(numbers) for numbers in zip(*(numbers for _, numbers in rest), strict=True)]
        lines.append((OTHERS, Providers(tuple(name for name, _ in shown), excluded=True), sums))

    def cells(name: str, providers: Providers, numbers: Sequence[int]) -> tuple[Cell, ...]:
        targets = (f"{address}&{providers.query}" for address in columns.values())
        pairs = zip(targets, numbers, strict=True)
        return name, *(link(target, f"{number:,}") if number else "0" for target, number in pairs)

    heads = ("*Provider", *(f"#{heading}" for heading in columns))
    return table(heads, (cells(*line) for line in lines), wide=wide)
