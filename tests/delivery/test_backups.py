"""Backups are proved to be good before older ones are deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from mailer.cli import run
from mailer.database.engine import Database
from mailer.database.instances import set_value
from mailer.delivery import backups
from mailer.delivery.lock import adopt, sending
from mailer.errors import ConfigError, ExitCode, LockedError, RefusedError, StorageError
from tests.delivery.scene import AT, queued
from tests.delivery.test_upgrading import old_database


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


def key(folder: Path) -> tuple[str, Path]:
    """Return a public key and the file of its secret key, as age-keygen writes them."""
    made = pyrage.x25519.Identity.generate()
    file = folder / "key.txt"
    file.write_text(f"# public key: {made.to_public()}\n{made}\n", encoding="utf-8")
    return str(made.to_public()), file


def test_encrypted_backup_is_opened_with_the_key_alone(database: Database, tmp_path: Path) -> None:
    queued(database, 3)
    folder = tmp_path / "backups"
    recipient, secret = key(tmp_path)
    kept = [
        backups.write(database, folder, 2, at=AT + timedelta(days=day), recipients=[recipient])
        for day in range(3)
    ][1:]
    assert sorted(folder.iterdir()) == kept
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert kept[0].read_bytes().startswith(b"age-encryption.org/v1\n")
    assert backups.verify(kept[0], secret).subscribers == 3
    (tmp_path / "other").mkdir()
    with pytest.raises(StorageError, match="cannot be decrypted"):
        backups.verify(kept[0], key(tmp_path / "other")[1])
    with pytest.raises(ConfigError, match="is encrypted"):
        backups.verify(kept[0])
    kept[0].write_bytes(kept[0].read_bytes()[:-100])
    with pytest.raises(StorageError, match="cannot be decrypted"):
        backups.verify(kept[0], secret)


def test_wrong_recipient_is_refused_before_anything_is_written(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    for recipient in ("age1nobody", "ssh-rsa x", "", "AGE-SECRET-KEY-1"):
        with pytest.raises(ConfigError, match="not a recipient"):
            backups.write(database, folder, 1, at=AT, recipients=[recipient])
    assert not folder.exists()


def test_restored_backup_is_the_newsletter_as_it_was(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipient, secret = key(tmp_path)
    queued(database, 3)
    lost = tmp_path / "elsewhere"
    lost.mkdir()
    (lost / "config.toml").write_text("")
    here = ["-C", str(lost), "--yes"]
    for encrypted in ([], [recipient]):
        backup = tmp_path / f"copy{len(encrypted)}.db{'.age' * len(encrypted)}"
        backups.write_one(database, backup, encrypted)
        command = ["db", "restore", str(backup), "--identity", str(secret), *here]
        assert run(command) == ExitCode.DONE
        out = capsys.readouterr().out
        assert ("that it replaced is in" in out) == bool(encrypted)
        found = backups.verify(lost / "subscribers.db")
        assert (found.subscribers, found.issues) == (3, 1)
        assert (lost / "subscribers.db").stat().st_mode & 0o777 == 0o600
    # A restored copy sends nothing until it is adopted.
    with Database("sqlite:///subscribers.db", folder=lost) as restored:
        with restored.transaction() as connection:
            set_value(connection, "home", "/old/place.db")
        with pytest.raises(RefusedError, match="is now at"), sending(restored):
            pass
        adopt(restored)
        with sending(restored):
            pass


def test_nothing_is_restored_while_the_database_is_open_or_from_a_bad_backup(
    database: Database, tmp_path: Path
) -> None:
    queued(database, 3)
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    database.backup(good)
    database.backup(bad)
    unbalanced(bad)
    assert database.path is not None
    with closing(sqlite3.connect(database.path)) as other:
        other.execute("SELECT count(*) FROM issues").fetchone()
        with pytest.raises(LockedError, match="open"):
            backups.restore(database, good, at=AT)
    with pytest.raises(StorageError, match="do not balance"):
        backups.restore(database, bad, at=AT)
    assert backups.findings(database) == []


def test_backup_of_an_older_version_is_verified_and_restored(database: Database, tmp_path: Path) -> None:
    older = old_database(tmp_path / "older.db", "0005", people=4)
    assert backups.verify(older).version == "0005"
    backups.restore(database, older, at=AT)
    assert database.version() == "0005"
