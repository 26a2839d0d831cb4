"""Digests: issues that a worker makes from a feed at set times, as drafts or to be sent.

The items that it used are recorded in the transaction that queues the issue, so a worker that is killed
sends nothing twice. At worst, a draft is left behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, insert

from mailer.config import Digest, Settings
from mailer.database import instances
from mailer.database.engine import Database
from mailer.database.tables import ALERT, Event
from mailer.delivery import editions, enqueueing
from mailer.delivery.clock import now
from mailer.delivery.schedule import STALE_AFTER, instant
from mailer.errors import LockedError, MailerError
from mailer.rendering.source.front_values import DAYS
from mailer.rendering.source.new import create_issue, slug
from mailer.review.feeds import Read, markdown, read_feed, remember
from mailer.review.links import Address
from mailer.review.release import check_release

LOOK_SECONDS: Final = 300
_log = logging.getLogger(__name__)
Permitted = Callable[[Address], bool] | None


def look(
    settings: Settings,
    database: Database,
    *,
    say: Callable[[str], None],
    clock: Callable[[], datetime] = now,
    permitted: Permitted = None,
) -> None:
    """Make the digests whose time has come; a feed that cannot be read is tried again within the hour."""
    for name, digest in settings.digests.items():
        begin = last_time(digest, at=clock())
        if begin is None:
            continue
        with database.reading() as connection:
            if _is_done(connection, name, begin):
                continue
        try:
            said = _make(settings, database, name, digest, begin, at=clock(), permitted=permitted)
        except LockedError:
            # Another worker made it.
            continue
        except MailerError as error:
            _log.error("digest %s: %s", name, error)
            continue
        say(f"digest {name}: {said}")


def last_time(digest: Digest, *, at: datetime) -> datetime | None:
    """Return the last time of a digest, if it was less than an hour ago; otherwise None."""
    clock = time.fromisoformat(digest.at)
    local = at.astimezone(ZoneInfo(digest.zone) if digest.zone else None)
    for day in (local.date(), local.date() - timedelta(days=1)):
        begin = instant(datetime.combine(day, clock), digest.zone)
        if begin <= at < begin + STALE_AFTER and (not digest.days or DAYS[day.weekday()] in digest.days):
            return begin
    return None


def _make(
    settings: Settings,
    database: Database,
    name: str,
    digest: Digest,
    begin: datetime,
    *,
    at: datetime,
    permitted: Permitted,
) -> str:
    """Make one digest; return what became of it."""
    with database.reading() as connection:
        read = read_feed(connection, digest.feed, at=at, permitted=permitted)
    if not read.items:
        with database.transaction() as connection:
            _finish(connection, name, begin, read, at=at)
        return "nothing new"
    folder = settings.path(settings.paths.issues)
    body = markdown(read.items[: digest.items])
    path = create_issue(folder, digest.title, slug(digest.title), on=at.date(), body=body)
    try:
        if digest.send and not (problem := _problem(settings, database, path, digest)):
            edition = editions.build(settings, path)
            enqueueing.enqueue(
                settings,
                database,
                edition,
                path,
                digest.to,
                at=at,
                also=lambda connection, issue: _finish(connection, name, begin, read, at=at),
            )
            return f"{path.stem} is queued"
        with database.transaction() as connection:
            _finish(connection, name, begin, read, at=at)
            if digest.send:
                said = f"the digest {name} is not sent: {problem}. It is a draft: {path.name}"
                connection.execute(insert(Event).values(at=at, kind=ALERT, details={"text": said}))
    except LockedError:
        path.unlink()
        raise
    return f"{path.name} is a draft"


def _problem(settings: Settings, database: Database, path: Path, digest: Digest) -> str:
    """Return the reason why an issue must not be sent, or empty."""
    try:
        check_release(settings, database, path, editions.build(settings, path), digest.to)
    except MailerError as error:
        return error.message
    return ""


def _is_done(connection: Connection, name: str, begin: datetime) -> bool:
    stored = instances.value(connection, _key(name))
    return stored is not None and datetime.fromisoformat(stored) >= begin


def _finish(connection: Connection, name: str, begin: datetime, read: Read, *, at: datetime) -> None:
    """Record the items used; raise `LockedError` if another worker has made this digest."""
    if _is_done(connection, name, begin):
        raise LockedError(f"the digest {name} was made by another worker")
    instances.set_value(connection, _key(name), begin.isoformat())
    remember(connection, read, at=at)


def _key(name: str) -> str:
    return f"digest {name}"[:64]
