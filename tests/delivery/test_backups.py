"""Backups are proved to be good before older ones are deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mailer.database.session import Database
from mailer.delivery import backups
from mailer.errors import StorageError
from tests.delivery.scene import AT, queued


def test_newest_backups_are_kept_and_strangers_stay(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    queued(database, 3)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    written = [backups.write(database, folder, 3, at=AT + timedelta(days=day)) for day in range(5)]
    assert sorted(path.name for path in folder.glob("*.db")) == [path.name for path in written[2:]]
    assert (folder / "notes.txt").exists()
    assert {path.stat().st_mode & 0o777 for path in written[2:]} == {0o600}
    found = backups.verify(written[-1])
    assert (found.subscribers, found.issues) == (3, 1)


def unbalanced(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM deliveries WHERE subscriber_id = 1")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def other_file(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


@pytest.mark.parametrize("spoil", [unbalanced, truncated, other_file])
def test_bad_backup_is_found_and_replaces_no_good_one(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    assert callable(spoil)
    queued(database, 3)
    good = backups.write(database, tmp_path / "backups", 1, at=AT)
    whole = database.backup

    def bad(target: Path) -> None:
        whole(target)
        spoil(target)

    monkeypatch.setattr(database, "backup", bad)
    with pytest.raises(StorageError):
        backups.write(database, good.parent, 1, at=AT + timedelta(days=1))
    assert list(good.parent.iterdir()) == [good]
    backups.verify(good)
