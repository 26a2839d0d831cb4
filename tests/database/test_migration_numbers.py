"""Migrations form one chain, in the order of their numbers; two that were made side by side would not."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

from mailer import database


def test_each_migration_follows_the_one_numbered_before_it() -> None:
    script = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    files = sorted(path.name[:4] for path in Path(script.versions).glob("[0-9]*.py"))
    assert files == [f"{number:04}" for number in range(1, len(files) + 1)]
    chain = [(one.revision, one.down_revision) for one in script.walk_revisions()]
    assert chain[::-1] == list(zip(files, [None, *files], strict=False))
