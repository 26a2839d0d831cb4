"""A CSV file of any usual encoding and delimiter, or JSON Lines, read row by row."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, TextIO

from mailer.audience.transfer.json_lines import Candidate, json_rows
from mailer.audience.transfer.presets import PLAIN, Preset, split_tags
from mailer.errors import SourceError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_OCTETS: Final = 64 * 1024
_MAX_COLUMNS: Final = 200
# What Excel writes above the heading, and reads itself.
_NAMED_DELIMITER: Final = re.compile(r"sep=([^\w\"\r\n])(?=[\r\n])", re.IGNORECASE)
JSON_LINES: Final = (".jsonl", ".ndjson")
# Header names that mean the address or the name, in the exports of the usual services, compared
# without case, spaces and punctuation.
_EMAIL: Final = (
    "email",
    "emailaddress",
    "mail",
    "address",
    "subscriberemail",
    "useremail",
    "adresse",
    "correo",
)
_NAME: Final = ("name", "fullname", "subscribername", "displayname")
_NAME_PARTS: Final = (("firstname", "lastname"), ("fname", "lname"), ("givenname", "familyname"))


@dataclass(frozen=True, slots=True)
class Source:
    """A file of subscribers: its encoding, its size in octets, its rows, and how much of it was read."""

    encoding: str
    octets: int
    rows: Iterator[Candidate]
    read: Callable[[], int]


@contextmanager
def open_source(path: Path, preset: Preset = PLAIN, *, encoding: str = "") -> Iterator[Source]:
    """Open a file of subscribers: JSON Lines if it is called so, else CSV.

    Encoding and delimiter are found out; an `encoding` can be given, by a name of Python's. A file without
    a mark of its encoding is UTF-8 if all of it is valid UTF-8, else Windows-1252, of which Latin-1 is a
    part. Raises `SourceError` for a missing, empty or headless file, and for one that lacks a column the
    preset requires.
    """
    try:
        encoding = _known(encoding) or _encoding(path)
        with path.open("rb") as raw, TextIOWrapper(raw, encoding=encoding, newline="") as file:
            sample = file.read(_SAMPLE_OCTETS)
            file.seek(0)
            if not sample.strip():
                raise SourceError(f"{path}: is empty", remedy="export it again")
            if path.suffix.lower() in JSON_LINES:
                rows = json_rows(file, preset)
            else:
                rows = _csv_rows(path, file, sample, preset)
            yield Source(encoding, path.stat().st_size, rows, raw.tell)
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except UnicodeError as error:
        raise SourceError(
            f"{path}: cannot be read ({error})", remedy="name its encoding with --encoding"
        ) from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    except csv.Error as error:
        raise SourceError(f"{path}:1: not a CSV file ({error})") from error


def _csv_rows(path: Path, file: TextIO, sample: str, preset: Preset) -> Iterator[Candidate]:
    named = _NAMED_DELIMITER.match(sample)
    reader = csv.reader(file, delimiter=named[1] if named else _delimiter(sample), strict=True)
    if named:
        next(reader)
    header = [name.strip() for name in next(reader, [])]
    email, name, others = _columns(path, header, preset)
    special = {preset.tags, preset.attributes, *preset.columns, *preset.ignored}
    kept = [(column, preset.renamed.get(column, column)) for column in others if column not in special]
    # csv.reader counts physical lines, so a quoted line break does not lead the count astray.
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Candidate(reader.line_num, problem=f"not a CSV row ({error})")
            continue
        if not any(cells):
            continue
        if len(cells) > len(header):
            problem = f"has {len(cells)} cells, the header has {len(header)}"
            yield Candidate(reader.line_num, problem=problem)
            continue
        row = {column: cell for column, cell in zip(header, cells, strict=False) if column}
        problem, attributes = _json_attributes(row.get(preset.attributes, ""), preset.attributes)
        try:
            tags = split_tags(row.get(preset.tags, ""))
        except csv.Error as error:
            problem, tags = f"{preset.tags}: cannot be read ({error})", ()
        for column, key in kept:
            if value := row.get(column, ""):
                attributes[key] = value
        yield Candidate(
            reader.line_num,
            address=row.get(email, ""),
            name=" ".join(filter(None, (row.get(column, "").strip(" ") for column in name))),
            attributes=attributes,
            tags=tags,
            out=preset.why_out(row),
            problem=problem,
        )


def _json_attributes(cell: str, column: str) -> tuple[str, dict[str, Any]]:
    """Return what is wrong with a cell, or nothing and the object in it."""
    if not cell.strip():
        return "", {}
    try:
        fields = json.loads(cell)
    except (ValueError, RecursionError) as error:
        return f"{column}: is not JSON ({error})", {}
    if not isinstance(fields, dict):
        return f"{column}: is not a JSON object", {}
    return "", fields


def _columns(
    path: Path, header: Sequence[str], preset: Preset
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    there = ", ".join(header)
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise SourceError(
            f"{path}:1: two columns are called '{twice}'", remedy="rename one of them, or take it out"
        )
    if len(header) > _MAX_COLUMNS:
        raise SourceError(f"{path}:1: has {len(header)} columns; {_MAX_COLUMNS} are allowed")
    for wanted in sorted(preset.required):
        if wanted not in header:
            raise SourceError(f"{path}:1: there is no column '{wanted}'", remedy=f"the columns are: {there}")
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(header)}
    email = preset.email or next((plain[known] for known in _EMAIL if known in plain), None)
    if email is None and any("@" in name for name in header):
        raise SourceError(
            f"{path}:1: the first line is no heading but a row", remedy="put a line above it, such as: email"
        )
    if email is None:
        raise SourceError(
            f"{path}:1: no column looks like the address",
            remedy=f"say --map email=COLUMN; the columns are: {there}",
        )
    if preset.name:
        name: tuple[str, ...] = (preset.name,)
    elif whole := next((plain[known] for known in _NAME if known in plain), None):
        name = (whole,)
    else:
        name = next(
            (
                tuple(plain[part] for part in parts if part in plain)
                for parts in _NAME_PARTS
                if parts[0] in plain
            ),
            (),
        )
    return email, name, tuple(column for column in header if column and column not in (email, *name))


def _known(encoding: str) -> str:
    """Return the usual name of an encoding of text, or raise `SourceError`; nothing stays nothing."""
    if not encoding:
        return ""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise SourceError(
            f"there is no encoding '{encoding}'", remedy="write for example: --encoding iso-8859-2"
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


def _delimiter(sample: str) -> str:
    first = sample.splitlines()[0]
    counts = {mark: first.count(mark) for mark in (",", ";", "\t", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","
