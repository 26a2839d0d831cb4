"""The tables: each is imported with the module that names it, and none before."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mailer.database import models

_IMPORTS = """
import sys
from mailer.cli import why
print(*(name for name in sys.modules if name.startswith(("mailer.database.models.", "sqlalchemy.dialects."))))
"""


@pytest.mark.parametrize("name", models.__all__)
def test_each_name_is_there(name: str) -> None:
    assert getattr(models, name) is not None


def test_all_tables_are_known_at_once() -> None:
    named = [getattr(models, name) for name in models.__all__]
    tables = {
        one.__tablename__ for one in named if isinstance(one, type(models.Base)) and one is not models.Base
    }
    assert set(models.every_table().tables) == tables


def test_other_names_are_refused() -> None:
    with pytest.raises(ImportError, match="cannot import name 'Nobody'"):
        exec("from mailer.database.models import Nobody")


def test_a_command_that_reads_imports_neither_all_tables_nor_postgresql() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTS], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "mailer.database.models.people" in loaded
    assert "mailer.database.models.access" not in loaded
    assert "sqlalchemy.dialects.sqlite" in loaded
    assert "sqlalchemy.dialects.postgresql" not in loaded
