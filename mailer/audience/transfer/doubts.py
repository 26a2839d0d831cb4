"""Watch columns that seem to say who opted out, while a file is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mailer.audience.transfer.columns import refuse, says_who_left

# A column of dates has as many values as rows; this many show what the column is.
_MAX_VALUES: Final = 1_000


class Doubts:
    """The values of doubtful columns, counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, dict[str, int]] = {}

    def see(self, cells: Iterable[tuple[str, str]]) -> None:
        """Count the cells of a row: column and value."""
        for column, cell in cells:
            counts = self._counts.setdefault(column, {})
            value = cell.strip()
            if value and (value in counts or len(counts) < _MAX_VALUES):
                counts[value] = counts.get(value, 0) + 1

    def settle(self, line: int) -> None:
        """Raise `SourceError` if a column says that anyone opted out; `line` is the line of the heading."""
        left = {
            column: counts for column, counts in self._counts.items() if says_who_left(column, list(counts))
        }
        if left:
            named = re.sub(r"[^a-z0-9]+", "-", self._path.stem.lower()).strip("-") or "file"
            raise refuse(self._path, line, left, named=named)
