"""Figures as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, TextIO


def write_table(target: TextIO, kind: type[Any], rows: Iterable[Any]) -> None:
    """Write dataclasses of one kind as CSV, a column for each field. Times are in ISO 8601."""
    writer = csv.DictWriter(target, [one.name for one in fields(kind)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row).items()
        writer.writerow({name: at.isoformat() if isinstance(at, datetime) else at for name, at in values})
