"""A large audience: import and export of CSV, counting a segment, and memory, beside sqlite-utils and SQL."""

from __future__ import annotations

import csv
import multiprocessing
import sqlite3
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import Figure
from benchmarks._peak import peak_megabytes
from mailer.audience.segments import parse_segment
from mailer.audience.transfer import exporting
from mailer.audience.transfer.importing import import_file
from mailer.database.engine import Database

_SECRET: Final = b"b" * 32
_IMPORT_BAR: Final = 3.0
_SEGMENT_BAR: Final = 2.0
_EXPORT_BAR: Final = 2.0
_MEMORY_BAR: Final = 1.5
_COUNTRIES: Final = ("RO", "MD", "DE", "FR", "US")
_SEGMENT: Final = 'country = "RO" and domain:d3.example.org and joined > 2026-01-01'
_BY_HAND: Final = """
    SELECT count(*) FROM subscribers
    WHERE json_extract(attributes, '$.country') = 'RO' AND domain = 'd3.example.org'
      AND created_at > 1767225600000000
"""


def add_options(parser: ArgumentParser) -> None:
    """Add the size of the audience."""
    parser.add_argument("--rows", type=int, default=1_000_000, help="subscribers in the audience benchmark")


def measure(options: Namespace) -> Iterator[Figure]:
    """Yield seconds for `--rows` subscribers; peer and we have the same file and the same disk."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "people.csv"
        _write_people(source, options.rows)
        peer = _seconds(lambda: _peer_import(folder, source))
        database = Database("sqlite:///ours.db", folder=folder)
        database.open()
        ours = _seconds(
            lambda: import_file(database, source, secret=_SECRET, at=datetime(2026, 3, 2, tzinfo=UTC))
        )
        yield _figure(f"import {options.rows:,} rows", ours, peer, _IMPORT_BAR)
        yield _figure(f"count a segment of {options.rows:,}", *_segment(database, folder), _SEGMENT_BAR)
        yield _figure(f"export {options.rows:,} rows", *_export(database, folder), _EXPORT_BAR)
        database.close()
        yield _memory(folder, source, options.rows)


def _memory(folder: Path, source: Path, rows: int) -> Figure:
    """Return the peak memory of importing and exporting all rows beside that of a tenth of them."""
    tenth = folder / "tenth.csv"
    _write_people(tenth, rows // 10)
    # A process of its own each: the peak of a process never falls.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as process:
        ours, less = (process.apply(_peak_megabytes, (folder, file)) for file in (source, tenth))
    return Figure(
        "audience",
        f"peak memory, {rows:,} rows and a tenth",
        ours,
        less,
        ours / less,
        f"<= {_MEMORY_BAR:g}",
        ours / less <= _MEMORY_BAR,
        "MB",
    )


def _peak_megabytes(folder: Path, source: Path) -> float:
    database = Database(f"sqlite:///{source.stem}-memory.db", folder=folder)
    database.open()
    import_file(database, source, secret=_SECRET, at=datetime(2026, 3, 2, tzinfo=UTC))
    with database.reading() as connection, (folder / "memory.csv").open("w", encoding="utf-8") as file:
        exporting.write_csv(connection, file, None)
    return peak_megabytes()


def _segment(database: Database, folder: Path) -> tuple[float, float]:
    condition = parse_segment(_SEGMENT, {}).condition

    def ours() -> int:
        with database.reading() as connection:
            return exporting.count(connection, condition)

    with closing(sqlite3.connect(folder / "ours.db")) as connection:

        def by_hand() -> int:
            number: int = connection.execute(_BY_HAND).fetchone()[0]
            return number

        if ours() != by_hand():
            raise AssertionError("the segment and the SQL by hand count different subscribers")
        turns = [(_seconds(ours), _seconds(by_hand)) for _ in range(5)]
    return min(turn[0] for turn in turns), min(turn[1] for turn in turns)


def _export(database: Database, folder: Path) -> tuple[float, float]:
    def ours() -> None:
        with (
            database.reading() as connection,
            (folder / "ours.csv").open("w", encoding="utf-8", newline="") as file,
        ):
            exporting.write_csv(connection, file, None)

    turns = [(_seconds(ours), _seconds(lambda: _peer_export(folder))) for _ in range(3)]
    return min(turn[0] for turn in turns), min(turn[1] for turn in turns)


def _write_people(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["email", "name", "country", "points"])
        for number in range(rows):
            writer.writerow(
                [
                    f"person{number}@d{number % 50}.example.org",
                    f"Person {number}",
                    _COUNTRIES[number % 5],
                    number % 97,
                ]
            )


def _peer_import(folder: Path, source: Path) -> None:
    _sqlite_utils("insert", folder / "peer.db", "people", source, "--csv", "--pk", "email")


def _peer_export(folder: Path) -> None:
    with (folder / "peer.csv").open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "sqlite_utils", "rows", str(folder / "peer.db"), "people", "--csv"],
            check=True,
            stdout=file,
        )


def _sqlite_utils(*arguments: object) -> None:
    subprocess.run(
        [sys.executable, "-m", "sqlite_utils", *map(str, arguments)], check=True, capture_output=True
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _figure(what: str, ours: float, peer: float, bar: float | None = None) -> Figure:
    ratio = ours / peer
    return Figure(
        "audience",
        what,
        ours,
        peer,
        ratio,
        None if bar is None else f"<= {bar:g}",
        None if bar is None else ratio <= bar,
        "s",
    )
