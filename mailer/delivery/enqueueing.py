"""Queueing an issue: what must be set before mail may leave, its audience, and the edition it freezes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from mailer.config import Settings, is_loopback
from mailer.database.session import Database
from mailer.delivery import canary, issues
from mailer.delivery.issues import QueuedIssue
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition


def check_ready(settings: Settings, *, test: bool = False) -> None:
    """Raise `RefusedError` if mail that leaves this machine would break a law or a receiver's rule.

    The links of a `test` lead nowhere, so it does not need the address of the pages.
    """
    for key, error in refusals(settings):
        if not (test and key == "web.public_url"):
            raise error


def refusals(settings: Settings) -> Iterator[tuple[str, RefusedError]]:
    """Yield the settings because of which nothing may leave this machine, with the error of each."""
    if not settings.relays:
        return
    if not settings.newsletter.postal_address.strip():
        yield (
            "newsletter.postal_address",
            RefusedError(
                "newsletter.postal_address is empty: every issue must carry one (CAN-SPAM)",
                remedy="set postal_address in config.toml",
            ),
        )
    url = urlsplit(settings.web.public_url)
    if url.scheme != "https" or is_loopback(url.hostname or ""):
        yield (
            "web.public_url",
            RefusedError(
                f"web.public_url is {settings.web.public_url}: readers could not unsubscribe there"
                " (RFC 8058 requires https)",
                remedy="set public_url in config.toml to the address of your pages",
            ),
        )


def frozen(database: Database, slug: str) -> Edition | None:
    """Return the edition that was frozen when an issue was queued; None if it is not queued."""
    with database.reading() as session:
        known = issues.find(session, slug)
        return issues.edition(session, known.edition_digest) if known is not None else None


def enqueue(
    settings: Settings,
    database: Database,
    edition: Edition,
    path: Path,
    segment: str,
    *,
    at: datetime,
    canary_share: float | None = None,
    also: Callable[[Session, QueuedIssue], object] = lambda session, issue: None,
) -> QueuedIssue:
    """Freeze an issue and queue it for its audience, in one transaction; a queued issue never changes.

    With `canary_share`, that share of the audience and the seeds in it are mailed before the others.
    `also` is done in the same transaction. Raises `RefusedError` for a canary of an issue with an A/B test.
    """
    if edition.arms and canary_share is not None:
        raise RefusedError(
            f"{edition.slug} has an A/B test, which goes to a part of the audience first already",
            remedy="leave out --canary",
        )

    def queued() -> QueuedIssue:
        with database.transaction() as session:
            issue, new = issues.enqueue(
                session,
                edition,
                source_path=str(path),
                at=at,
                segment=segment,
                condition=audience_condition(settings, segment),
            )
            if new and canary_share is not None:
                canary.begin(session, issue.id, canary_share, settings.canary.seeds)
                issue = issues.get(session, issue.id)
            also(session, issue)
        return issue

    try:
        return queued()
    except IntegrityError:
        # On PostgreSQL another process may have queued it at the same moment: use what it froze.
        return queued()


def audience_condition(settings: Settings, segment: str) -> ColumnElement[bool] | None:
    """Return the condition of a segment; None selects everyone."""
    if not segment:
        return None
    # Load the parser only if a segment is given.
    from mailer.audience.segments import parse_segment

    return parse_segment(segment, settings.segments).condition
