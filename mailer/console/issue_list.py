"""All issues in one table, and the start of a new one."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import Handler, add_page, button, card, field, heading, told
from mailer.console.markup import issue_path, link, show, table, tag, when
from mailer.console.users import Role
from mailer.delivery.issue_names import number_of
from mailer.errors import RefusedError
from mailer.rendering.source.new import create_issue, slug
from mailer.review import overview
from mailer.review.directory import DRAFT, SCHEDULED
from mailer.review.overview import IssueLine


def add_pages(desk: Desk) -> None:
    """Add the table of issues."""

    async def build(visit: Visit, request: Request) -> None:
        settings = desk.settings
        await desk.count()
        lines = await desk.read(lambda connection: overview.issue_lines(connection, settings))
        with heading("Issues"):
            if visit.visitor.role.may(Role.EDITOR):
                button("New issue", _new_dialog(desk, visit), "main")
        with card():
            show(_table(lines))

    add_page(desk, "/issues", "Issues", build)


def _new_dialog(desk: Desk, visit: Visit) -> Handler:
    """Add the dialog for a new issue; return what opens it."""
    with ui.dialog().props('aria-label="New issue"') as dialog, ui.element("div").classes("box"):
        show(Markup("<h2>New issue</h2>"))
        title = field("Title").props("autofocus")

        async def create() -> None:
            words = " ".join((title.value or "").split())
            if not words or not words.isprintable():
                raise RefusedError("The issue needs a title of one line")
            settings = desk.settings
            folder = settings.path(settings.paths.issues)
            path = await desk.act(
                visit,
                Role.EDITOR,
                Change("issue.create", slug(words)),
                lambda: create_issue(folder, words, slug(words), on=datetime.now(UTC).date()),
            )
            ui.navigate.to(issue_path(path.stem))

        title.on("keydown.enter", lambda: told(create))
        with ui.element("div").classes("actions"):
            button("Create", create, "main")
            ui.button("Cancel", color=None, on_click=dialog.close).props("unelevated no-caps").classes(
                "plain"
            )

    async def opened() -> None:
        dialog.open()

    return opened


def _table(lines: list[IssueLine]) -> Markup:
    if not lines:
        return Markup('<p class="empty">There is no issue yet. Create the first one.</p>')

    def number(line: IssueLine, value: int) -> str:
        return "" if line.state in (DRAFT, SCHEDULED) else f"{value:,}"

    return table(
        ("#No.", "Issue", "@State", "@Date", "Audience", "#Sent", "#Failed", "#Opened", "#Clicked"),
        [
            (
                number_of(line.slug),
                link(issue_path(line.slug), line.title),
                tag(line.state),
                when(line.at),
                line.segment or ("" if line.state == DRAFT else "everyone"),
                number(line, line.sent),
                number(line, line.failed),
                number(line, line.opened),
                number(line, line.clicked),
            )
            for line in lines
        ],
        wide=(0, 3, 4, 6, 7, 8),
    )
