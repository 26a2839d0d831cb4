"""A CSV file of any usual encoding and delimiter, read row by row."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mailer.audience.presets import PLAIN, Preset
from mailer.errors import SourceError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_OCTETS: Final = 64 * 1024
_MAX_COLUMNS: Final = 200
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
class CsvRow:
    """A row by column name; `line` is where it ends in the file. `problem` says why it is no row."""

    line: int
    cells: Mapping[str, str]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A CSV file as a table: which columns mean what, and its rows."""

    encoding: str
    email: str
    name: tuple[str, ...]
    attributes: tuple[str, ...]
    preset: Preset
    rows: Iterator[CsvRow]


@contextmanager
def open_csv(path: Path, mapping: Mapping[str, str], preset: Preset = PLAIN) -> Iterator[Table]:
    """Open a CSV file; encoding and delimiter are found out.

    A file without a mark of its encoding is UTF-8 if all of it is valid UTF-8, else Windows-1252, of
    which Latin-1 is a part. Raises `SourceError` for a missing, empty or headless file.
    """
    try:
        encoding = _encoding(path)
        with path.open(encoding=encoding, newline="") as file:
            sample = file.read(_SAMPLE_OCTETS)
            file.seek(0)
            if not sample.strip():
                raise SourceError(f"{path}: is empty", remedy="export it again")
            reader = csv.reader(file, delimiter=_delimiter(sample), strict=True)
            header = [name.strip() for name in next(reader)]
            email, name, attributes = _columns(path, header, mapping)
            special = {preset.tags, preset.attributes, *preset.out, *preset.ignored}
            others = tuple(column for column in attributes if column not in special)
            yield Table(encoding, email, name, others, preset, _rows(path, reader, header))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file") from error
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error})") from error
    except csv.Error as error:
        raise SourceError(f"{path}:1: not a CSV file ({error})") from error


def _rows(path: Path, reader: Iterator[list[str]], header: Sequence[str]) -> Iterator[CsvRow]:
    # csv.reader counts physical lines, so a quoted line break does not lead the count astray.
    counter = reader
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line: int = counter.line_num  # type: ignore[attr-defined]
            yield CsvRow(line, {}, f"not a CSV row ({error})")
            continue
        line = counter.line_num  # type: ignore[attr-defined]
        if not any(cells):
            continue
        if len(cells) > len(header):
            yield CsvRow(line, {}, f"has {len(cells)} cells, the header has {len(header)}")
            continue
        yield CsvRow(line, dict(zip(header, cells, strict=False)))


def _columns(
    path: Path, header: Sequence[str], mapping: Mapping[str, str]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    there = ", ".join(header)
    if len(header) > _MAX_COLUMNS:
        raise SourceError(f"{path}:1: has {len(header)} columns; {_MAX_COLUMNS} are allowed")
    for wanted in mapping.values():
        if wanted not in header:
            raise SourceError(f"{path}:1: there is no column '{wanted}'", remedy=f"the columns are: {there}")
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in reversed(header)}
    email = mapping.get("email") or next((plain[known] for known in _EMAIL if known in plain), None)
    if email is None:
        raise SourceError(
            f"{path}:1: no column looks like the address",
            remedy=f"say --map email=COLUMN; the columns are: {there}",
        )
    if "name" in mapping:
        name: tuple[str, ...] = (mapping["name"],)
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
