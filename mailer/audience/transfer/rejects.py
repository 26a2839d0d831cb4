"""The file of rejected rows, and cells that spreadsheets don't run as formulas."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_RISKY: Final = re.compile("'*[=+\\-@\t\r]")
_RISKY_LINE: Final = re.compile(f"\n{_RISKY.pattern}")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A rejected row: its line in the file, the reason, and the value."""

    line: int
    reason: str
    value: str


@contextmanager
def rejects(path: Path | None) -> Iterator[Callable[[Rejected], None]]:
    """Yield a function that writes a rejected row to `path`.

    The rows go to a temporary file beside it, which is renamed at the end: after an error there is no new
    file, and an earlier one is unchanged. Without rejected rows, no file is created.
    """
    unfinished = None if path is None else path.with_name(f"{path.name}.part")
    with ExitStack() as opened:
        writer: Any = None

        def write(rejected: Rejected) -> None:
            nonlocal writer
            if unfinished is None:
                return
            if writer is None:
                opened.callback(unfinished.unlink, missing_ok=True)
                writer = csv.writer(opened.enter_context(unfinished.open("w", encoding="utf-8", newline="")))
                unfinished.chmod(0o600)
                writer.writerow(["line", "reason", "value"])
            writer.writerow([rejected.line, rejected.reason, safe_cell(rejected.value)])

        yield write
        if path is not None and unfinished is not None and writer is not None:
            unfinished.replace(path)


def safe_cell(value: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: = + - @ TAB and CR get an apostrophe in front.

    A cell that already begins like that gets another, so that `plain_cell` restores the original.
    """
    return f"'{value}" if _RISKY.match(value) else value


def plain_cell(cell: str) -> str:
    """Return a cell without the apostrophe that `safe_cell` or another program put in front."""
    return cell[1:] if cell[:1] == "'" and _RISKY.match(cell) else cell


def safe_cells(values: Sequence[str]) -> Sequence[str]:
    """Apply `safe_cell` to a column.

    Hardly any cell needs it, so the column is first searched as one text, which is faster than checking a
    million cells. A line break within a cell can only cause an unnecessary check.
    """
    if _RISKY_LINE.search("\n" + "\n".join(values)):
        return [safe_cell(value) for value in values]
    return values
