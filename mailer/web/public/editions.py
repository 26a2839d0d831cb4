"""The issues that the archive shows, and the frozen editions behind them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, case, func, select

from mailer.database.engine import Database
from mailer.database.tables import (
    CanaryMember,
    Delivery,
    IssueState,
    ReplacedEdition,
    Run,
    StoredArm,
    StoredEdition,
    StoredIssue,
)
from mailer.rendering.edition import Edition
from mailer.rendering.templating.filters import direction_of

PUBLIC: Final = (StoredIssue.c.published_at.is_not(None), StoredIssue.c.segment == "")
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
    updated_at: datetime
    """When it was amended, or `at`."""
    subtitle: str = ""
    number: int | None = None
    tags: tuple[str, ...] = ()
    image: str = ""
    """The path of the first image, or empty."""
    language: str = ""
    """Empty if it is the newsletter's."""

    @property
    def direction(self) -> str:
        """`ltr` or `rtl`; empty if it is the newsletter's."""
        return direction_of(self.language) if self.language else ""

    @property
    def path(self) -> str:
        """The path of the issue's page."""
        return issue_path(self.slug)

    def matches(self, words: str) -> bool:
        """Return whether each of these words is in the title, the subtitle or a tag."""
        text = " ".join((self.title, self.subtitle, *self.tags)).casefold()
        return all(word in text for word in words.casefold().split())


def issue_path(slug: str) -> str:
    """Return the path of an issue's page."""
    return f"/archive/{quote(slug, safe='')}"


class Editions:
    """The frozen editions of queued issues, public or not; the last few stay in memory.

    An edition never changes, so it is cached by its digest. An amended issue has several: the newest is
    shown, and the images of the others stay for the messages that load them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[str, Edition] = OrderedDict()
        self._teasers: dict[str, tuple[str, ArchivedIssue]] = {}
        self._lock = threading.Lock()

    def of_issue(self, issue_id: int) -> Edition | None:
        """Return the newest edition of an issue, or None if there is no such issue."""
        return self._newest(StoredIssue.c.id == issue_id)

    def received(self, issue_id: int, subscriber_id: int) -> Edition | None:
        """Return the edition of an issue that a subscriber got, or the newest if nothing was sent to them.

        None if there is no such issue.
        """
        theirs = (
            select(
                func.coalesce(
                    # What the members of an A/B test got first.
                    case((Run.c.edition == 1, StoredArm.c.digest)),
                    ReplacedEdition.c.digest,
                    StoredIssue.c.edition_digest,
                )
            )
            .select_from(StoredIssue)
            .outerjoin(
                Delivery,
                (Delivery.c.issue_id == StoredIssue.c.id) & (Delivery.c.subscriber_id == subscriber_id),
            )
            .outerjoin(Run, Run.c.id == Delivery.c.run_id)
            .outerjoin(
                CanaryMember,
                (CanaryMember.c.issue_id == StoredIssue.c.id)
                & (CanaryMember.c.subscriber_id == subscriber_id),
            )
            .outerjoin(
                StoredArm,
                (StoredArm.c.issue_id == StoredIssue.c.id) & (StoredArm.c.arm == CanaryMember.c.arm),
            )
            .outerjoin(
                ReplacedEdition,
                (ReplacedEdition.c.issue_id == StoredIssue.c.id)
                & (ReplacedEdition.c.number == Run.c.edition),
            )
            .where(StoredIssue.c.id == issue_id)
        )
        with self._database.reading() as connection:
            digest = connection.scalar(theirs)
        return None if digest is None else self._frozen(digest)

    def called(self, slug: str) -> Edition | None:
        """Return the newest edition of the issue with this slug, or None if there is none."""
        # PostgreSQL rejects NUL in text.
        return None if "\0" in slug else self._newest(StoredIssue.c.slug == slug)

    def replaced(self, slug: str) -> Iterator[Edition]:
        """Yield the editions of an issue that were replaced, the newest first, and the arms of its test."""
        wanted = (
            select(ReplacedEdition.c.digest)
            .join(StoredIssue)
            .where(StoredIssue.c.slug == slug)
            .order_by(ReplacedEdition.c.number.desc())
        )
        tested = select(StoredArm.c.digest).join(StoredIssue).where(StoredIssue.c.slug == slug)
        with self._database.reading() as connection:
            digests = [*connection.scalars(wanted), *connection.scalars(tested)]
        return map(self._frozen, digests)

    def is_public(self, slug: str) -> bool:
        """Return whether an issue has a public page."""
        if "\0" in slug:
            return False
        wanted = select(StoredIssue.c.id).where(StoredIssue.c.slug == slug, *PUBLIC)
        with self._database.reading() as connection:
            return connection.scalar(wanted) is not None

    def listed(self) -> list[ArchivedIssue]:
        """Return the issues in the archive's lists, newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(
                    StoredIssue.c.slug,
                    StoredIssue.c.title,
                    StoredIssue.c.dated_at,
                    StoredIssue.c.edition_digest,
                    select(func.max(ReplacedEdition.c.replaced_at))
                    .where(ReplacedEdition.c.issue_id == StoredIssue.c.id)
                    .scalar_subquery(),
                )
                .where(*PUBLIC, StoredIssue.c.state != IssueState.CANCELLED)
                .order_by(StoredIssue.c.dated_at.desc(), StoredIssue.c.id.desc())
            ).all()
        return [self._teaser(*row) for row in rows]

    def _teaser(
        self, slug: str, title: str, at: datetime, digest: str, amended_at: datetime | None
    ) -> ArchivedIssue:
        of, known = self._teasers.get(slug, ("", None))
        if known is not None and (known.at, of) == (at, digest):
            return known
        edition = self._frozen(digest)
        path = issue_path(slug)
        made = ArchivedIssue(
            slug,
            title,
            at,
            date.fromisoformat(edition.date) if edition.date else at.date(),
            updated_at=amended_at or at,
            subtitle=edition.subtitle,
            number=edition.number,
            tags=edition.tags,
            image=f"{path}/{edition.images[0].name}" if edition.images else "",
            language=edition.language,
        )
        self._teasers[slug] = digest, made
        return made

    def _newest(self, wanted: ColumnElement[bool]) -> Edition | None:
        with self._database.reading() as connection:
            digest = connection.scalar(select(StoredIssue.c.edition_digest).where(wanted))
        return None if digest is None else self._frozen(digest)

    def _frozen(self, digest: str) -> Edition:
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
                return self._kept[digest]
        with self._database.reading() as connection:
            content = connection.scalars(
                select(StoredEdition.c.content).where(StoredEdition.c.digest == digest)
            ).one()
        edition = Edition.from_json(content)
        with self._lock:
            self._kept[digest] = edition
            while len(self._kept) > _CACHED_EDITIONS:
                self._kept.popitem(last=False)
        return edition
