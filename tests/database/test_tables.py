"""The tables: each is imported with the module that names it, and none before."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import Table

from mailer.database import tables

_IMPORTS = """
import sys
from mailer.cli import why
print(*(name for name in sys.modules if name.startswith(("mailer.database.tables.", "sqlalchemy.dialects."))))
"""


@pytest.mark.parametrize("name", tables.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(tables, name) is not None


def test_all_tables_are_known_at_once() -> None:
    named = [getattr(tables, name) for name in tables.__all__]
    assert set(tables.every_table().tables) == {one.name for one in named if isinstance(one, Table)}


def test_other_names_are_refused() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Nobody'"):
        exec("from mailer.database.tables import Nobody")


def test_a_command_that_reads_imports_neither_all_tables_nor_postgresql() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mailer.database.tables.people" in loaded
    assert "mailer.database.tables.access" not in loaded
    assert "sqlalchemy.dialects.sqlite" in loaded
    assert "sqlalchemy.dialects.postgresql" not in loaded
