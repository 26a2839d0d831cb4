"""Exports go into spreadsheets, which run what looks like a formula."""

from __future__ import annotations

import csv
import io
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from mailer.address import parse_address
from mailer.audience.subscribers import add
from mailer.audience.transfer import exporting
from mailer.audience.transfer.rejects import safe_cell, safe_cells
from mailer.audience.transitions import Origin
from mailer.database.engine import Database

# TAB and CR would do it too, and no field takes them.
_BEGINNINGS = ("=", "+", "-", "@")


def test_no_cell_of_an_export_begins_a_formula(database: Database, at: datetime) -> None:
    formula = '=HYPERLINK("https://evil.example","look")'
    with database.transaction() as connection:
        for number, sign in enumerate(_BEGINNINGS):
            local = f"{sign}cmd{number}" if sign in "=+-" else f"a{number}"
            add(
                connection,
                parse_address(f"{local}@example.org"),
                secret=b"0123456789abcdef0123456789abcdef",
                origin=Origin("import"),
                at=at,
                name=f"{sign}cmd|' /C calc'!A0",
                attributes={f"{sign}field": formula},
                tags=(f"{sign}tag{number}",),
            )
    written = io.StringIO(newline="")
    with database.reading() as connection:
        assert exporting.write_csv(connection, written, None) == len(_BEGINNINGS)
    rows = list(csv.reader(io.StringIO(written.getvalue(), newline="")))
    assert len(rows) == len(_BEGINNINGS) + 1
    assert [cell for row in rows for cell in row if cell.startswith(_BEGINNINGS)] == []
    assert {row[1] for row in rows[1:]} == {f"'{sign}cmd|' /C calc'!A0" for sign in _BEGINNINGS}


@given(st.lists(st.text(alphabet=st.sampled_from("=+-@\t\r\na,'\"\x00")), max_size=8))
def test_safe_cells_equals_safe_cell_on_each_cell(cells: list[str]) -> None:
    assert list(safe_cells(cells)) == [safe_cell(cell) for cell in cells]


@given(st.lists(st.text(alphabet=st.sampled_from("a ,;'\"\t\r\né\u2028")), max_size=8))
def test_column_is_quoted_as_the_csv_module_does(cells: list[str]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([cell, "end"] for cell in cells)
    assert "".join(f"{cell},end\r\n" for cell in exporting.quoted(cells)) == written.getvalue()
