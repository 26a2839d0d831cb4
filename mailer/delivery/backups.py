"""Backups of an SQLite database: written, proved to be good, and deleted when there are enough newer ones."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from mailer.database.models import StoredIssue, Subscriber
from mailer.database.session import Database
from mailer.delivery.books import books_of
from mailer.errors import StorageError


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good backup holds."""

    version: str
    subscribers: int
    issues: int


def write(database: Database, folder: Path, keep: int, *, at: datetime) -> Path:
    """Write a verified backup to a folder, named by date; keep only the newest ones; return its path.

    Nothing is deleted unless the new backup is good.
    """
    if database.path is None:
        raise StorageError("only SQLite databases are backed up here", remedy="use pg_dump")
    stem = database.path.stem
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}", remedy="name a folder") from error
    path = folder / f"{stem}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.db"
    unproved = path.with_suffix(".new")
    # Left behind by a process that was killed.
    unproved.unlink(missing_ok=True)
    database.backup(unproved)
    try:
        verify(unproved)
    except StorageError:
        unproved.unlink()
        raise
    unproved.rename(path)
    # The names sort by time.
    for old in sorted(folder.glob(f"{stem}-????????T??????Z.db"))[:-keep]:
        old.unlink()
    return path


def verify(copy: Path) -> Verified:
    """Restore a backup to a temporary folder and check it; raise `StorageError` if anything is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        restored = Path(folder, "restored.db")
        shutil.copyfile(copy, restored)
        with Database(f"sqlite:///{restored}", folder=Path(folder)) as database:
            database.open()
            found = findings(database)
            with database.reading() as session:
                number = session.scalar(select(func.count()).select_from(StoredIssue)) or 0
                people = session.scalar(select(func.count()).select_from(Subscriber)) or 0
            version = database.version()
    if found:
        raise StorageError(f"{copy}: " + "\n".join(found), remedy="do not use this backup")
    return Verified(version, people, number)


def findings(database: Database) -> list[str]:
    """Return damage to a database, and the issues whose books do not balance; an empty list means none."""
    found = database.check()
    with database.reading() as session:
        every = session.execute(select(StoredIssue.id, StoredIssue.slug, StoredIssue.audience)).all()
        for issue_id, slug, audience in every:
            books = books_of(session, issue_id)
            if not books.balanced or books.audience != audience:
                found.append(f"the books of {slug} do not balance")
    return found
