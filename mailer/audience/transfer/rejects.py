"""Rows that an import does not take: each with its line and the reason, in a file of their own."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_RISKY: Final = re.compile("'*[=+\\-@\t\r]")
_RISKY_LINES: Final = tuple(f"\n{sign}" for sign in "=+-@\t\r'")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken: its line in the file, why, and what stood there."""

    line: int
    reason: str
    value: str


@contextmanager
def rejects(path: Path | None) -> Iterator[Callable[[Rejected], None]]:
    """Yield a function that writes a rejected row to `path`.

    The rows go to a file beside it, which takes its name when all is done: after an error there is no
    new file, and an earlier one is as it was. Without rejected rows no file is made.
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
    """Return a cell that no spreadsheet runs as a formula: an apostrophe goes before = + - @ TAB and CR.

    A cell that begins like that already gets one more, so that `plain_cell` returns what there was.
    """
    return f"'{value}" if _RISKY.match(value) else value


def plain_cell(cell: str) -> str:
    """Return a cell without the apostrophe that `safe_cell`, or another program, put before it."""
    return cell[1:] if cell[:1] == "'" and _RISKY.match(cell) else cell


def safe_cells(values: Sequence[str]) -> Sequence[str]:
    """Return a column of cells, each as `safe_cell` has it; nearly always none needs it.

    The column is searched as one text, which is quicker than looking at a million cells. A line break
    within a cell can only make it look closer than it had to.
    """
    text = "\n" + "\n".join(values)
    if any(sign in text for sign in _RISKY_LINES):
        return [safe_cell(value) for value in values]
    return values
