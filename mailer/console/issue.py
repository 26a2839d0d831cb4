"""The page of one issue: the editor before it is sent, its books and its results afterwards."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request

from mailer.console import approval
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, heading
from mailer.console.frames import Frames
from mailer.console.markup import show, tag
from mailer.console.sending import Sending
from mailer.console.watching import Watching
from mailer.console.writing import Writing
from mailer.delivery import issues, schedule
from mailer.errors import SourceError
from mailer.rendering.source.fields import parts, value_of
from mailer.review.drafts import read_draft

_ABOVE = ("/issues", "Issues")


def add_pages(desk: Desk, frames: Frames) -> None:
    """Add the page of an issue."""

    async def build(visit: Visit, request: Request) -> None:
        slug = str(request.path_params["slug"])
        queued = await desk.read(lambda connection: issues.find(connection, slug))
        if queued is not None:
            await Watching(desk, visit, queued).build()
            return
        path = _source(desk, slug)
        draft = read_draft(path)
        waiting = await desk.read(schedule.scheduled)
        scheduled = next((one for one in waiting if one.slug == slug), None)
        proposal = await desk.read(lambda connection: approval.find(connection, slug))
        title = value_of(parts(draft.text)[0], "title") or slug
        with heading(title, above=_ABOVE):
            show(tag("missed" if scheduled and scheduled.missed else "scheduled" if scheduled else "draft"))
        writing = Writing(desk, frames, visit, path, draft)
        writing.build()
        Sending(desk, visit, path, scheduled, proposal, unsaved=lambda: writing.unsaved).build()

    add_page(desk, "/issues/{slug}", "Issue", build)


def _source(desk: Desk, slug: str) -> Path:
    """Return the file of an issue. The name must be one of the folder's: it comes from the address bar."""
    settings = desk.settings
    for path in settings.path(settings.paths.issues).glob("*.md"):
        if path.stem == slug:
            return path
    raise SourceError(f"there is no issue '{slug}'", remedy="see the list of issues")
