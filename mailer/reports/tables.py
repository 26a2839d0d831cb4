"""Figures as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime
from typing import TextIO

from msgspec import Struct
from msgspec.structs import asdict


def write_table(target: TextIO, kind: type[Struct], rows: Iterable[Struct]) -> None:
    """Write structs of one kind as CSV, a column for each field. Times are in ISO 8601."""
    writer = csv.DictWriter(target, kind.__struct_fields__, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        values = asdict(row).items()
        writer.writerow({name: at.isoformat() if isinstance(at, datetime) else at for name, at in values})
