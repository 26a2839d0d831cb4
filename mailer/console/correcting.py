"""Correcting an issue that is partly sent: the text again, and the correction for the others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.console.approval import Kind, Proposal, Release
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, button, card, heading
from mailer.console.frames import Frames
from mailer.console.markup import issue_path, show
from mailer.console.releasing import let_go, show_proposal
from mailer.console.users import Role
from mailer.console.writing import Writing
from mailer.delivery import amending, editions, issues
from mailer.delivery.lock import exclusive
from mailer.errors import RefusedError
from mailer.rendering.edition import Edition
from mailer.rendering.source import read_issue
from mailer.review import filling, linting
from mailer.review.drafts import read_draft
from mailer.review.planning import still_open


def add_pages(desk: Desk, frames: Frames) -> None:
    """Add the page on which an issue is corrected."""

    async def build(visit: Visit, request: Request) -> None:
        slug = str(request.path_params["slug"])
        issue = await desk.read(lambda connection: issues.named(connection, slug))
        path = editions.find_source(desk.settings, issue.slug)
        heading("Correct the rest", above=(issue_path(issue.slug), issue.title))
        writing = Writing(desk, frames, visit, path, read_draft(path))
        writing.build()

        async def amend() -> None:
            if writing.unsaved:
                raise RefusedError("There are unsaved changes", remedy="save them first")
            await desk.check(visit, Role.SENDER)
            edition = await asyncio.to_thread(_corrected, desk, path)
            if await let_go(desk, visit, path, edition, Release(Kind.AMEND)):
                ui.navigate.to(issue_path(issue.slug))

        with card("Send the correction"):
            show(
                Markup('<p class="soft">Everyone who does not have the issue yet gets it as it is here. '
                       "Both editions are kept.</p>")
            )  # fmt: skip
            with ui.element("div").classes("actions"):
                button("Send the correction", amend, "main")

    add_page(desk, "/issues/{slug}/correct", "Correct", build, Role.SENDER)


def show_correction(desk: Desk, visit: Visit, proposal: Proposal) -> None:
    """Add the card of a correction that waits for approval."""
    path = editions.find_source(desk.settings, proposal.slug)

    async def ready(segment: str) -> Edition:
        await desk.check(visit, Role.SENDER)
        return await asyncio.to_thread(_corrected, desk, path)

    show_proposal(desk, visit, path, proposal, ready)


def _corrected(desk: Desk, path: Path) -> Edition:
    """Return the next edition of an issue, checked as `mailer amend` checks it."""
    settings, database = desk.settings, desk.database
    with exclusive(database) as connection:
        known = issues.named(connection, path.stem)
        amending.check(connection, known.id, at=datetime.now(UTC))
        links = issues.edition(connection, known.edition_digest).links
    edition = editions.build(settings, path, links=links)
    linting.refuse_errors(linting.examine(settings, read_issue(path), edition))
    filling.compose_some(settings, database, edition, still_open(known.id), undone="nothing was amended")
    return edition
