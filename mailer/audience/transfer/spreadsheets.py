"""Read the rows of a spreadsheet (.xlsx, .xls, .ods) as text."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from mailer.audience.transfer.csv_records import Record
from mailer.errors import SourceError

SUFFIXES: Final = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
# A spreadsheet is read whole. A million rows of four cells take up some 60 MB, and 300 MB unpacked.
_MAX_OCTETS: Final = 200 * 1024 * 1024
_MAX_UNPACKED: Final = 1024 * 1024 * 1024

_Cell = int | float | str | bool | time | date | datetime | timedelta | None


def spreadsheet_records(path: Path) -> Iterator[Record]:
    """Yield the rows of the only sheet that has rows.

    Raises `SourceError` for a file that is not a spreadsheet, is too large, or has rows in several sheets.
    """
    # Imported for spreadsheets only.
    from python_calamine import CalamineError, CalamineWorkbook

    _check_size(path)
    try:
        workbook = CalamineWorkbook.from_path(str(path))
        sheets = {name: workbook.get_sheet_by_name(name) for name in workbook.sheet_names}
        filled = [name for name, sheet in sheets.items() if sheet.height]
        if len(filled) > 1:
            raise SourceError(
                f"{path}: has {len(filled)} sheets with rows: {', '.join(filled)}",
                remedy="save the sheet with the subscribers as a separate file",
            )
        if not filled:
            raise SourceError(f"{path}: is empty", remedy="export it again")
        sheet = sheets[filled[0]]
        first = (sheet.start or (0, 0))[0] + 1
        for line, row in enumerate(sheet.to_python(skip_empty_area=True), first):
            cells = [_text(cell) for cell in row]
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield Record(line, line, cells)
    except CalamineError as error:
        raise SourceError(
            f"{path}: cannot be read as a spreadsheet ({error})", remedy="save it as CSV and import that"
        ) from error


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            unpacked = sum(one.file_size for one in packed.infolist())
    else:
        unpacked = size
    if size > _MAX_OCTETS or unpacked > _MAX_UNPACKED:
        raise SourceError(
            f"{path}: too large to read as a spreadsheet", remedy="save it as CSV and import that"
        )


def _text(cell: _Cell) -> str:
    """Return a cell as a CSV file would contain it: whole numbers without a point, dates as ISO 8601."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case float() if cell.is_integer():
            return str(int(cell))
        case datetime() | date() | time():
            return cell.isoformat()
    return str(cell)
