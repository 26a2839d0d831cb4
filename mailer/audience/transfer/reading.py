"""Read subscriber files (CSV, JSON Lines, spreadsheets) row by row."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final

from mailer.address import mailbox_in, parse_address
from mailer.audience.fields import clean_name
from mailer.audience.transfer.columns import LEFT_WORDS, Columns, columns_of
from mailer.audience.transfer.csv_records import Record, csv_records, swallowed
from mailer.audience.transfer.doubts import Doubts
from mailer.audience.transfer.json_lines import Candidate, json_rows
from mailer.audience.transfer.presets import (
    JSON_COLUMN,
    OWN_HEADER,
    PLAIN,
    PRESETS,
    Out,
    Preset,
    parse_instant,
    split_tags,
)
from mailer.audience.transfer.rejects import plain_cell
from mailer.audience.transfer.spreadsheets import SUFFIXES, spreadsheet_records
from mailer.errors import AddressError, SourceError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_OCTETS: Final = 64 * 1024
JSON_LINES: Final = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Source:
    """An open subscriber file: encoding, size in octets, rows, and a function for the octets read so far."""

    encoding: str
    octets: int
    rows: Iterator[Candidate]
    read: Callable[[], int]


@contextmanager
def open_source(path: Path, preset: Preset = PLAIN, *, encoding: str = "") -> Iterator[Source]:
    """Open a file of subscribers: JSON Lines or a spreadsheet by its name, else CSV.

    Encoding and delimiter are detected unless an `encoding` is given, by Python's name for it. A file that
    does not say is UTF-8 if all of it is valid UTF-8, else Windows-1252, which includes Latin-1. Raises
    `SourceError` for a missing, empty or headless file, for a quote that is not closed, for a column that
    the preset requires and the file lacks, and, at the end, for one that says who left and has no meaning.
    """
    try:
        size = path.stat().st_size
        if path.suffix.lower() in SUFFIXES:
            yield Source("", size, _rows(path, spreadsheet_records(path), preset), lambda: size)
            return
        encoding = _known(encoding) or _encoding(path)
        with path.open("rb") as raw, TextIOWrapper(raw, encoding=encoding, newline="") as file:
            sample = file.read(_SAMPLE_OCTETS)
            file.seek(0)
            if not sample.strip():
                raise SourceError(f"{path}: is empty", remedy="export it again")
            if path.suffix.lower() in JSON_LINES:
                rows = json_rows(file, preset, Doubts(path))
            else:
                rows = _rows(path, csv_records(path, file, sample), preset)
            yield Source(encoding, size, rows, raw.tell)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except UnicodeError as error:
        raise SourceError(
            f"{path}: cannot be decoded ({error})", remedy="name its encoding with --encoding"
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


def _rows(path: Path, records: Iterator[Record], preset: Preset) -> Iterator[Candidate]:
    """Yield the rows of a table; the first record is the heading."""
    first = next(records, None)
    if first is None:
        first = Record(1, 1, [])
    if first.problem:
        raise SourceError(f"{path}:{first.line}: not a CSV file ({first.problem})")
    own = tuple(first.cells[: len(OWN_HEADER)]) == OWN_HEADER
    if own and preset == PLAIN:
        preset = PRESETS["mailer"]
    columns = columns_of(path, first.line, [plain_cell(cell) for cell in first.cells], preset, own=own)
    table = _TableRows(path, columns, preset)
    for record in records:
        yield table.candidate(record)
    table.doubts.settle(columns.line)


class _TableRows:
    """Makes candidates of the records under a heading."""

    def __init__(self, path: Path, columns: Columns, preset: Preset) -> None:
        self._path = path
        self._columns = columns
        self._preset = preset
        self._email = columns.header.index(columns.email)
        self._width = len(columns.header)
        self._unique = len({*filter(None, columns.header)}) == self._width
        in_json = {column for column, _ in columns.attributes if column.endswith(JSON_COLUMN)}
        self._texts = [(column, key) for column, key in columns.attributes if column not in in_json]
        self._json = [
            (column, key.removesuffix(JSON_COLUMN)) for column, key in columns.attributes if column in in_json
        ]
        self.doubts = Doubts(path)

    def candidate(self, record: Record) -> Candidate:
        """Return a record as a row of the table."""
        cells = record.cells
        # Most rows contain no apostrophe, and checking every cell of a million rows takes a second.
        if "'" in "".join(cells):
            cells = [plain_cell(cell) for cell in cells]
        if record.last_line > record.line and (line := swallowed(cells, self._width, self._email)):
            raise SourceError(
                f"{self._path}:{record.line}: a quote swallows the lines up to {record.last_line}, among "
                f"them: {line[:60]}; nothing was imported",
                remedy="close the quote, or write it twice if it is part of the text",
            )
        while len(cells) > self._width and not cells[-1].strip():
            cells.pop()
        problem = record.problem
        if not problem and len(cells) > self._width:
            problem = f"has {len(cells)} cells, the header has {self._width}"
        row = self._row(cells)
        if problem:
            return self._broken(record.line, cells, row, problem)
        if self._columns.doubtful:
            self.doubts.see((column, row.get(column, "")) for column in self._columns.doubtful)
        return self._whole(record.line, row)

    def _row(self, cells: list[str]) -> dict[str, str]:
        """Return the cells by column; if two columns share a name, the first non-empty cell counts."""
        if self._unique:
            return dict(zip(self._columns.header, cells, strict=False))
        row: dict[str, str] = {}
        for name, cell in zip(self._columns.header, cells, strict=False):
            if name and not row.get(name):
                row[name] = cell
        return row

    def _whole(self, line: int, row: Mapping[str, str]) -> Candidate:
        columns, preset = self._columns, self._preset
        problem, attributes, tags = "", dict[str, Any](), tuple[str, ...]()
        if preset.attributes:
            problem, attributes = _json_attributes(row.get(preset.attributes, ""), preset.attributes)
        if preset.tags:
            try:
                tags = split_tags(row.get(preset.tags, ""))
            except csv.Error as error:
                problem = f"{preset.tags}: cannot be read ({error})"
        for column, key in self._texts:
            if value := row.get(column, ""):
                attributes[key] = value
        for column, key in self._json:
            if cell := row.get(column, ""):
                try:
                    attributes[key] = json.loads(cell)
                except (ValueError, RecursionError):
                    attributes[key] = cell
        return Candidate(
            line,
            address=mailbox_in(row.get(columns.email, "")),
            name=clean_name(
                " ".join([part for one in columns.name if (part := row.get(one, "").strip(" "))])
            ),
            attributes=attributes,
            tags=tags,
            out=preset.why_out(row),
            joined_at=parse_instant(row.get(columns.joined, "")) if columns.joined else None,
            problem=problem,
        )

    def _broken(self, line: int, cells: list[str], row: Mapping[str, str], problem: str) -> Candidate:
        """Return a row whose cells may be shifted: it adds no subscriber, but an opt-out in it counts."""
        address = mailbox_in(row.get(self._columns.email, ""))
        if not _is_address(address):
            found = {mailbox_in(cell) for cell in cells if "@" in cell}
            found = {one for one in found if _is_address(one)}
            if len(found) == 1:
                address = found.pop()
        out = self._preset.why_out(row) or self._moved_out(cells)
        return Candidate(line, address=address, out=out, problem=problem)

    def _moved_out(self, cells: list[str]) -> Out | None:
        """Return an opt-out in a cell that was shifted to the right, in a row with too many cells."""
        surplus = max(0, len(cells) - self._width)
        for rule in self._preset.out:
            if rule.column not in self._columns.header:
                continue
            place = self._columns.header.index(rule.column)
            for cell in cells[place + 1 : place + 1 + surplus]:
                word = cell.strip().casefold()
                says = word in rule.means or word in LEFT_WORDS or parse_instant(cell) is not None
                if says and (out := self._preset.why_out({rule.column: cell})):
                    return out
        return None


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except AddressError:
        return False
    return True


def _json_attributes(cell: str, column: str) -> tuple[str, dict[str, Any]]:
    """Return the problem with a cell (empty if there is none) and the JSON object in it."""
    if not cell.strip():
        return "", {}
    try:
        fields = json.loads(cell)
    except (ValueError, RecursionError) as error:
        return f"{column}: is not JSON ({error})", {}
    if not isinstance(fields, dict):
        return f"{column}: is not a JSON object", {}
    return "", fields


def _known(encoding: str) -> str:
    """Return the normal name of an encoding, or raise `SourceError`; empty stays empty."""
    if not encoding:
        return ""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise SourceError(
            f"unknown encoding '{encoding}'", remedy="write for example: --encoding iso-8859-2"
        ) from error


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
        for bom, name in _BOMS:
            if start.startswith(bom):
                return name
        decoder = codecs.getincrementaldecoder("utf-8")()
        file.seek(0)
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"
