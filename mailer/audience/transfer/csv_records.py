"""CSV records with line numbers; a quote that swallows rows is an error."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from mailer.errors import SourceError

# Excel writes and reads this line above the heading.
_NAMED_DELIMITER: Final = re.compile(r"\s*sep=([^\w\"\r\n])(?=[\r\n])", re.IGNORECASE)
# A line is refused when this much of it has been read, so a file without line breaks costs no more memory.
MAX_RECORD_CHARACTERS: Final = 1_000_000
_DELIMITERS: Final = (",", ";", "\t", "|")


class Record(NamedTuple):
    """A record: its first and last line in the file, its cells, and the problem if it is invalid."""

    line: int
    last_line: int
    cells: list[str]
    problem: str = ""


def csv_records(path: Path, file: TextIO, sample: str) -> Iterator[Record]:
    """Yield the records of a CSV file that are not empty; `sample` is the beginning of the file.

    Raises `SourceError` for a quote that is not closed, since all that follows would be one cell, and for
    a record of more than `MAX_RECORD_CHARACTERS`.
    """
    named = _NAMED_DELIMITER.match(sample)
    delimiter = named[1] if named else _delimiter(sample)
    held: list[str] = []

    def lines() -> Iterator[str]:
        characters = 0
        while line := file.readline(MAX_RECORD_CHARACTERS + 1):
            characters = characters + len(line) if held else len(line)
            held.append(line)
            if characters > MAX_RECORD_CHARACTERS:
                first = reader.line_num + 2 - len(held)
                raise SourceError(
                    f"{path}:{first}: the row that begins here has more than {MAX_RECORD_CHARACTERS:,} "
                    "characters; nothing was imported",
                    remedy="export the file again with one subscriber per line, and close every quote",
                )
            yield line

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    waits_for_sep = named is not None
    while True:
        held.clear()
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if len(held) > 1 or "unexpected end" in str(error):
                raise _unclosed(path, line, held, delimiter) from error
            yield Record(line, line, split_line(held[0], delimiter), f"not a CSV row ({error})")
            continue
        if waits_for_sep and cells:
            waits_for_sep = False
        elif any(cells) and (len(cells) > 1 or cells[0].strip()):
            yield Record(line, reader.line_num, cells)


def split_line(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, even if its quotes are wrong."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def swallowed(cells: list[str], columns: int, email: int) -> str | None:
    """Return the first line within a cell that looks like a row of its own, or None.

    Two stray quotes turn all rows between them into one cell.
    """
    for cell in cells:
        for line in cell.splitlines()[1:]:
            for delimiter in _DELIMITERS:
                parts = split_line(line, delimiter)
                if len(parts) == columns and "@" in parts[email] and " " not in parts[email].strip():
                    return line
    return None


def _unclosed(path: Path, first: int, held: list[str], delimiter: str) -> SourceError:
    opened = first + _opening_line("".join(held), delimiter)
    last = first + len(held) - 1
    if opened == last:
        what = "a quote opens here and is not closed"
    else:
        what = f"a quote opens here and swallows the lines up to {last}, {last - opened} rows or more"
    return SourceError(
        f"{path}:{opened}: {what}; nothing was imported",
        remedy=f"close the quote in line {opened}, or write it twice if it is part of the text",
    )


def _opening_line(text: str, delimiter: str) -> int:
    """Return the line of a record (from 0) in which its last quoted cell opens."""
    opening = line = 0
    begins, quoted = True, False
    for place, character in enumerate(text):
        if character == '"':
            if quoted:
                quoted = False
            elif begins or text[place - 1] == '"':
                if begins:
                    opening = line
                quoted = True
            begins = False
            continue
        if character == "\n":
            line += 1
        begins = not quoted and character in (delimiter, "\n")
    return opening


def _delimiter(sample: str) -> str:
    first = next((line for line in sample.splitlines() if line.strip()), "")
    counts = {mark: first.count(mark) for mark in _DELIMITERS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","
