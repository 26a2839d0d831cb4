"""Subscribers as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from wcwidth import wcswidth

from mailer.printable import blanked

_FIELDS: Final = ("email", "name", "status", "joined")
_MAX_WIDTH: Final = 60


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return a header and one line for each row, in columns; other names are those of attributes."""
    cells = [list(columns), *([_cell(row, column) for column in columns] for row in rows)]
    widths = [max(_width(line[place]) for line in cells) for place in range(len(columns))]
    return ["  ".join(map(_padded, line, widths)).rstrip() for line in cells]


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - _width(cell))


def _cell(row: Mapping[str, Any], column: str) -> str:
    if column == "tags":
        text = " ".join(row["tags"])
    elif column in _FIELDS:
        text = str(row[column])
    else:
        text = str(row["attributes"].get(column, ""))
    shown = blanked(text)
    return shown if len(shown) <= _MAX_WIDTH else shown[: _MAX_WIDTH - 1] + "…"


def _width(text: str) -> int:
    return max(wcswidth(text), 0)
