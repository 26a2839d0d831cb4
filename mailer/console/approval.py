"""Approval by a second person: proposals, and who may approve them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection, delete, insert, select

from mailer.database.tables import StoredProposal, TableRow
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition


class Kind(StrEnum):
    """The action that was proposed for an issue."""

    SEND = "send"
    SCHEDULE = "schedule"
    AMEND = "amend"


@dataclass(frozen=True, slots=True)
class Release:
    """How an issue is to go out."""

    kind: Kind
    segment: str = ""
    share: float | None = None
    """The share of the audience that gets it first; None without a canary."""
    due_at: datetime | None = None
    zone: str = ""
    wall: datetime | None = None
    """The time on the clock in every subscriber's own zone; then `due_at` is that time in `zone`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A release that waits for approval."""

    slug: str
    release: Release
    digest: str
    who: str
    at: datetime

    def covers(self, edition: Edition) -> bool:
        """Return whether an edition is the one that was proposed."""
        return self.digest == edition.digest


def propose(connection: Connection, edition: Edition, release: Release, who: str, *, at: datetime) -> None:
    """Store a proposal; it replaces an earlier one for the same issue."""
    connection.execute(delete(StoredProposal).where(StoredProposal.c.slug == edition.slug))
    connection.execute(
        insert(StoredProposal).values(
            slug=edition.slug,
            kind=release.kind.value,
            digest=edition.digest,
            segment=release.segment,
            share=release.share,
            due_at=release.due_at,
            zone=release.zone,
            wall_time=release.wall.isoformat() if release.wall is not None else "",
            who=who,
            at=at,
        )
    )


def proposals(connection: Connection) -> list[Proposal]:
    """Return the proposals that wait for approval, the oldest first."""
    return [
        _proposal(row) for row in connection.execute(select(StoredProposal).order_by(StoredProposal.c.at))
    ]


def find(connection: Connection, slug: str) -> Proposal | None:
    """Return the proposal for an issue, or None."""
    stored = connection.execute(select(StoredProposal).where(StoredProposal.c.slug == slug)).one_or_none()
    return None if stored is None else _proposal(stored)


def approve(connection: Connection, wanted: Proposal, who: str) -> None:
    """Remove a proposal because it is done now.

    Raises `RefusedError` if it was changed or withdrawn meanwhile, or if `who` proposed it.
    """
    if wanted.who == who:
        raise RefusedError("Someone else must approve this: you proposed it")
    gone = delete(StoredProposal).where(
        StoredProposal.c.slug == wanted.slug,
        StoredProposal.c.digest == wanted.digest,
        StoredProposal.c.at == wanted.at,
    )
    # The transaction that deletes the row may go on; a simultaneous one finds no row.
    if connection.execute(gone.returning(StoredProposal.c.slug)).first() is None:
        raise RefusedError("This was approved, changed or withdrawn meanwhile", remedy="reload the page")


def withdraw(connection: Connection, slug: str) -> None:
    """Remove a proposal, by its author or by someone who declines it."""
    connection.execute(delete(StoredProposal).where(StoredProposal.c.slug == slug))


def _proposal(stored: TableRow) -> Proposal:
    wall = datetime.fromisoformat(stored.wall_time) if stored.wall_time else None
    release = Release(Kind(stored.kind), stored.segment, stored.share, stored.due_at, stored.zone, wall)
    return Proposal(stored.slug, release, stored.digest, stored.who, stored.at)
