"""Backups of an SQLite database: write, verify and restore them, and delete old ones."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from mailer.database.engine import HEAD, Database, upgrade
from mailer.database.tables import StoredIssue, Subscriber
from mailer.database.usage import require_unused
from mailer.delivery import encryption
from mailer.delivery.books import books_of, running_books
from mailer.delivery.lock import not_sending
from mailer.errors import StorageError


@dataclass(frozen=True, slots=True)
class Verified:
    """The contents of a good backup."""

    version: str
    subscribers: int
    issues: int


def write(
    database: Database, folder: Path, keep: int, *, at: datetime, recipients: Sequence[str] = ()
) -> Path:
    """Write a verified backup to a folder, named by date; keep only the newest ones; return its path.

    With `recipients`, it is encrypted for them. Nothing is deleted unless the new backup is good.
    """
    encryption.check(recipients)
    if database.path is None:
        raise StorageError("only SQLite databases are backed up here", remedy="use pg_dump")
    stem = database.path.stem
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", remedy="name a folder") from error
    path = folder / f"{stem}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.db{encryption.SUFFIX if recipients else ''}"
    unproved = folder / f"{stem}.new"
    # Left behind by a process that was killed.
    unproved.unlink(missing_ok=True)
    database.backup(unproved)
    try:
        verify(unproved)
        if recipients:
            encryption.encrypt(unproved, path, recipients)
        else:
            unproved.rename(path)
    finally:
        unproved.unlink(missing_ok=True)
    # The names sort by time.
    for old in sorted(folder.glob(f"{stem}-????????T??????Z.db*"))[:-keep]:
        old.unlink()
    return path


def write_one(database: Database, target: Path, recipients: Sequence[str] = ()) -> None:
    """Write a backup to a file; with `recipients`, encrypted for them."""
    encryption.check(recipients)
    if not recipients:
        database.backup(target)
        return
    if target.exists():
        raise StorageError(f"{target} already exists", remedy="name another file")
    plain = target.with_name(f"{target.name}.new")
    database.backup(plain)
    try:
        encryption.encrypt(plain, target, recipients)
    finally:
        plain.unlink()


def restore(database: Database, backup: Path, *, at: datetime, identity: Path | None = None) -> Path | None:
    """Put a verified backup in place of a database that nobody uses; return where the old one was put.

    A backup of an older version stays at that version. Raises `LockedError` if the database is in use, and
    `StorageError` if the backup is damaged; then the database is as before.
    """
    if database.path is None:
        raise StorageError(
            "only SQLite databases are restored here",
            remedy="use pg_restore; or mailer db copy, to move a backup from SQLite to PostgreSQL",
        )
    with encryption.opened(backup, identity) as plain:
        verify(plain)
        require_unused(database)
        aside = None
        with not_sending(database):
            if database.path.exists():
                name = f"{database.path.stem}-replaced-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.db"
                aside = database.path.with_name(name)
                database.backup(aside)
            else:
                database.path.touch(mode=0o600)
            overwrite(database.path, plain)
    return aside


def overwrite(path: Path, copy: Path) -> None:
    """Write a copy over a database, in one transaction of SQLite."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)


def verify(copy: Path, identity: Path | None = None) -> Verified:
    """Restore a backup to a temporary folder and check it; raise `StorageError` if anything is wrong.

    A backup of an older version is upgraded there first.
    """
    with encryption.opened(copy, identity) as plain, tempfile.TemporaryDirectory() as folder:
        restored = Path(folder, "restored.db")
        shutil.copyfile(plain, restored)
        with Database(f"sqlite:///{restored}", folder=Path(folder)) as database:
            if "" < (version := database.version()) < HEAD:
                upgrade(database)
            database.open()
            found = findings(database)
            with database.reading() as connection:
                number = connection.scalar(select(func.count()).select_from(StoredIssue)) or 0
                people = connection.scalar(select(func.count()).select_from(Subscriber)) or 0
    if found:
        raise StorageError(f"{copy}: " + "\n".join(found), remedy="do not use this backup")
    return Verified(version, people, number)


def findings(database: Database) -> list[str]:
    """Return damage to a database, and the issues whose books do not balance; an empty list means none."""
    found = database.check()
    with database.reading() as connection:
        every = connection.execute(select(StoredIssue.c.id, StoredIssue.c.slug, StoredIssue.c.audience)).all()
        for issue_id, slug, audience in every:
            books = books_of(connection, issue_id)
            if not books.balanced or books.audience != audience:
                found.append(f"the books of {slug} do not balance")
            if running_books(connection, issue_id) != books:
                found.append(f"the running totals of {slug} differ from its deliveries")
    return found
