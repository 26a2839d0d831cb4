"""The issues that the archive shows, and the frozen editions behind them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, select

from mailer.database.models import IssueState, StoredEdition, StoredIssue
from mailer.database.session import Database
from mailer.rendering.edition import Edition

PUBLIC: Final = (StoredIssue.published_at.is_not(None), StoredIssue.segment == "")
"""Matches issues with a public page: those sent to the whole audience, once they are out."""
_CACHED_EDITIONS: Final = 16


@dataclass(frozen=True, slots=True)
class ArchivedIssue:
    """An issue in the archive's lists. `at` is the Date: of its messages."""

    slug: str
    title: str
    at: datetime
    day: date
    """The date in the issue's front matter, or else that of its messages."""
    subtitle: str = ""
    number: int | None = None
    tags: tuple[str, ...] = ()
    image: str = ""
    """The path of the first image, or empty."""

    @property
    def path(self) -> str:
        """The path of the issue's page."""
        return f"/archive/{quote(self.slug, safe='')}"

    def matches(self, words: str) -> bool:
        """Return whether each of these words is in the title, the subtitle or a tag."""
        text = " ".join((self.title, self.subtitle, *self.tags)).casefold()
        return all(word in text for word in words.casefold().split())


class Editions:
    """The frozen editions of queued issues, public or not; the last few stay in memory.

    They never change, so the cache needs no invalidation.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[int | str, Edition] = OrderedDict()
        self._teasers: dict[str, ArchivedIssue] = {}
        self._lock = threading.Lock()

    def of_issue(self, issue_id: int) -> Edition | None:
        """Return the edition of an issue, or None if there is no such issue."""
        return self._get(issue_id, StoredIssue.id == issue_id)

    def called(self, slug: str) -> Edition | None:
        """Return the edition of the issue with this slug, or None if there is none."""
        # PostgreSQL rejects NUL in text.
        return None if "\0" in slug else self._get(slug, StoredIssue.slug == slug)

    def is_public(self, slug: str) -> bool:
        """Return whether an issue has a page for everybody."""
        if "\0" in slug:
            return False
        with self._database.reading() as session:
            return session.scalar(select(StoredIssue.id).where(StoredIssue.slug == slug, *PUBLIC)) is not None

    def listed(self) -> list[ArchivedIssue]:
        """Return the issues in the archive's lists, newest first."""
        with self._database.reading() as session:
            rows = session.execute(
                select(StoredIssue.slug, StoredIssue.title, StoredIssue.dated_at)
                .where(*PUBLIC, StoredIssue.state != IssueState.CANCELLED)
                .order_by(StoredIssue.dated_at.desc(), StoredIssue.id.desc())
            ).all()
        return [self._teaser(slug, title, at) for slug, title, at in rows]

    def _teaser(self, slug: str, title: str, at: datetime) -> ArchivedIssue:
        known = self._teasers.get(slug)
        if known is not None and known.at == at:
            return known
        made = ArchivedIssue(slug, title, at, at.date())
        if (edition := self.called(slug)) is not None:
            made = ArchivedIssue(
                slug,
                title,
                at,
                date.fromisoformat(edition.date) if edition.date else at.date(),
                subtitle=edition.subtitle,
                number=edition.number,
                tags=edition.tags,
                image=f"{made.path}/{edition.images[0].name}" if edition.images else "",
            )
        self._teasers[slug] = made
        return made

    def _get(self, key: int | str, wanted: ColumnElement[bool]) -> Edition | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        with self._database.reading() as session:
            content = session.scalar(select(StoredEdition.content).join(StoredIssue).where(wanted))
        if content is None:
            return None
        edition = Edition.from_json(content)
        with self._lock:
            self._kept[key] = edition
            while len(self._kept) > _CACHED_EDITIONS:
                self._kept.popitem(last=False)
        return edition
