"""The issues that exist: drafts in the folder, scheduled and queued ones."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, select

from mailer.config import Settings
from mailer.database.tables import StoredIssue
from mailer.delivery import issues, schedule
from mailer.delivery.issue_names import is_named
from mailer.delivery.issues import QueuedIssue
from mailer.errors import SourceError

DRAFT: Final = "draft"
SCHEDULED: Final = "scheduled"
MISSED: Final = "missed"
_MAX_HEAD: Final = 16_384


class Entry(Struct, frozen=True):
    """An issue. `state` is an `IssueState`, `draft`, `scheduled` or `missed`."""

    slug: str
    title: str
    state: str
    at: datetime
    """When it was queued or is due; for a draft, when its file was last changed."""
    segment: str = ""
    issue_id: int | None = None
    """None if it is not queued."""


def entries(connection: Connection, settings: Settings) -> list[Entry]:
    """Return all issues, the latest slug first. Counts no deliveries."""
    issue = StoredIssue.c
    stored = select(issue.slug, issue.title, issue.state, issue.created_at, issue.segment, issue.id)
    found = {row.slug: Entry(*row) for row in connection.execute(stored)}
    files = sources(settings)
    for one in schedule.scheduled(connection):
        state = MISSED if one.missed else SCHEDULED
        title = title_of(files.get(one.slug), one.slug)
        found.setdefault(one.slug, Entry(one.slug, title, state, one.due_at, one.segment))
    for slug, path in files.items():
        if slug not in found:
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            found[slug] = Entry(slug, title_of(path, slug), DRAFT, changed)
    return [found[slug] for slug in sorted(found, reverse=True)]


def unqueued(connection: Connection, settings: Settings, name: str) -> Entry | None:
    """Return the draft or scheduled issue that `name` means, or None if it is queued or unknown.

    Raises `SourceError` if the number fits several of them.
    """
    found = [entry for entry in entries(connection, settings) if is_named(entry.slug, name)]
    if not found or any(entry.issue_id is not None for entry in found):
        return None
    chosen = [entry for entry in found if entry.slug == name] or found
    if len(chosen) > 1:
        names = ", ".join(sorted(entry.slug for entry in chosen))
        raise SourceError(f"several issues begin with {name}: {names}", remedy="name one of them")
    return chosen[0]


def queued(connection: Connection, settings: Settings, name: str) -> QueuedIssue:
    """Return the queued issue that `name` means.

    Raises `SourceError` that says whether there is a draft or a scheduled issue of that name instead.
    """
    entry = unqueued(connection, settings, name)
    if entry is None:
        return issues.named(connection, name)
    remedy = f"mailer send {entry.slug}"
    if entry.state != DRAFT:
        remedy += f", or: mailer schedule cancel {entry.slug}"
    raise SourceError(f"{entry.slug} is {described(entry)}; it was never queued", remedy=remedy)


def described(entry: Entry) -> str:
    """Return a phrase for an issue that was never queued, e.g. `a draft`."""
    at = f"{entry.at.astimezone():%Y-%m-%d %H:%M}"
    if entry.state == DRAFT:
        return "a draft"
    return f"scheduled for {at}" if entry.state == SCHEDULED else f"late: it was scheduled for {at}"


def sources(settings: Settings) -> dict[str, Path]:
    """Return the files of issues by slug."""
    return {path.stem: path for path in sorted(settings.path(settings.paths.issues).glob("*.md"))}


def title_of(path: Path | None, slug: str) -> str:
    """Return the title in the front matter, or the slug: a broken file is an issue too."""
    if path is None:
        return slug
    # Imported on use: most lists have no drafts.
    import yaml

    try:
        head = path.read_bytes()[:_MAX_HEAD].decode("utf-8", "replace").replace("\r\n", "\n")
        front = head.removeprefix("\ufeff").partition("---\n")[2].partition("\n---")[0]
        # Reads everything as text, so a wrong date or an endless number elsewhere does no harm.
        values = yaml.load(front, Loader=yaml.BaseLoader)  # noqa: S506
    except (OSError, yaml.YAMLError, RecursionError):
        return slug
    title = values.get("title") if isinstance(values, dict) else None
    return title if title and isinstance(title, str) else slug
