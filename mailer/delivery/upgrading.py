"""Upgrading the schema with a way back: back up, migrate, check, and restore if anything is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mailer.database.engine import HEAD, Database, upgrade
from mailer.database.usage import require_unused
from mailer.delivery import backups
from mailer.delivery.lock import not_sending
from mailer.errors import MailerError, RefusedError, StorageError


@dataclass(frozen=True, slots=True)
class Upgraded:
    """The result of an upgrade."""

    before: str
    """The version found; empty for a new database."""
    backup: Path | None
    """The copy of the old database; None if none was needed or wanted."""


def upgrade_safely(database: Database, *, back_up: bool, at: datetime) -> Upgraded:
    """Bring the schema to this version, in one transaction.

    With `back_up`, an SQLite database is copied first. If the migrated database is damaged or its books do
    not balance, the copy is restored. Raises `LockedError` while another process has the database open,
    and `RefusedError` for a PostgreSQL database that would need a backup, or one that a newer mailer made.
    """
    before = database.version()
    if before > HEAD:
        raise RefusedError(
            f"the database is at version {before}, made by a newer mailer than this one ({HEAD})",
            remedy="install the newer version",
        )
    if before in ("", HEAD):
        upgrade(database)
        return Upgraded(before, None)
    if back_up and database.path is None:
        raise RefusedError(
            "PostgreSQL databases are not backed up here",
            remedy="back it up with pg_dump, then: mailer upgrade --no-backup",
        )
    require_unused(database)
    with not_sending(database):
        if not back_up or database.path is None:
            upgrade(database)
            return Upgraded(before, None)
        name = f"{database.path.stem}-{before}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}.db"
        copy = database.path.with_name(name)
        database.backup(copy)
        try:
            upgrade(database)
            if findings := backups.findings(database):
                raise StorageError("\n".join(findings))
        except MailerError as error:
            database.close()
            backups.overwrite(database.path, copy)
            raise StorageError(
                f"the upgrade failed and was undone: {error.message}",
                remedy=f"go on with the version that you had; the old database is also in {copy}",
            ) from error
        return Upgraded(before, copy)
