"""This machine: clock, disk and database."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import text

from mailer.database.engine import HEAD, Database
from mailer.delivery import backups
from mailer.doctor.findings import Finding, ok, problem, warning
from mailer.errors import MailerError

_SKEW_SECONDS: Final = 5.0
_LEAST_FREE: Final = 200_000_000
_LITTLE_FREE: Final = 2_000_000_000


def clock(database: Database) -> Iterator[Finding]:
    """Check that the clock is synchronized, and that it agrees with the database server's.

    Signatures, schedules and retries depend on it.
    """
    if not database.is_sqlite and database.exists():
        with database.reading() as connection:
            theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        skew = abs((datetime.now(UTC) - theirs).total_seconds())
        if skew > _SKEW_SECONDS:
            yield problem(
                "clock",
                "this machine",
                f"differs by {skew:.0f} s from the database server's",
                remedy="synchronize both with NTP (timedatectl set-ntp true)",
            )
    match _synchronized():
        case True:
            yield ok("clock", "this machine", "synchronized")
        case False:
            yield warning(
                "clock",
                "this machine",
                "not synchronized; a wrong clock breaks schedules, and TLS and DKIM in the end",
                remedy="timedatectl set-ntp true",
            )
        case None:
            now = datetime.now(UTC)
            yield ok("clock", "this machine", f"says {now:%Y-%m-%d %H:%M:%S} UTC; it cannot be compared here")


def _synchronized() -> bool | None:
    """Return what systemd says about the clock; None if there is no systemd."""
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


def disk(folder: Path) -> Iterator[Finding]:
    """Check the space that is left where the database, or the newsletter, is."""
    free = shutil.disk_usage(folder).free
    message = f"{free / 1e9:,.1f} GB free"
    if free < _LEAST_FREE:
        yield problem("disk", str(folder), message, remedy="free some space; a full disk stops a run")
    elif free < _LITTLE_FREE:
        yield warning("disk", str(folder), message, remedy="free some space before the next issue")
    else:
        yield ok("disk", str(folder), message)


def books(database: Database) -> Iterator[Finding]:
    """Check that the database can be used: its version, its integrity, and the books of every issue."""
    subject = str(database.path or database.url.render_as_string())
    try:
        version = database.version()
        if not version:
            yield ok("database", subject, "new; it is made on first use")
            return
        if version != HEAD:
            yield problem(
                "database",
                subject,
                f"is at version {version}, and this mailer needs {HEAD}",
                remedy="mailer upgrade" if version < HEAD else "install the newer version of mailer",
            )
            return
        found = backups.findings(database)
    except MailerError as error:
        yield problem("database", subject, error.message, remedy=error.remedy or "check paths.database")
        return
    if found:
        yield problem("database", subject, "; ".join(found[:5]), remedy="restore a backup")
    else:
        yield ok("database", subject, f"version {version}, no damage, and every issue's books balance")
