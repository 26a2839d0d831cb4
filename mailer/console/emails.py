"""Emails that were sent, in a frame: as one subscriber got it, and with the clicks on each link."""

from __future__ import annotations

import email
import email.policy
from typing import Final

from nicegui import ui
from sqlalchemy import Connection
from starlette.requests import Request

from mailer.audience.subscribers import get
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.frames import Frames
from mailer.console.markup import facts, issue_path, note, show
from mailer.delivery import issues
from mailer.errors import SourceError
from mailer.printable import whole_number
from mailer.rendering.html.variants import with_links_beside
from mailer.reports.statistics import issue_statistics
from mailer.review.sent import sent_message, with_clicks
from mailer.review.viewing import SANDBOX, Rendered

_SHOWN_HEADERS: Final = ("Subject", "From", "To")


def add_pages(desk: Desk, frames: Frames) -> None:
    """Add the page of one subscriber's email, and the page of an issue with its clicks."""

    def show_frame(visit: Visit, html: str, title: str) -> None:
        source = frames.keep(visit.visitor.digest, with_links_beside(html))
        frame = ui.element("iframe").classes("mail").props(f'sandbox="{SANDBOX}" title="{title}"')
        frame.props(f'src="{source}"')

    async def one(visit: Visit, request: Request) -> None:
        written = str(request.path_params["number"])
        number = whole_number(written) or 0
        slug = str(request.path_params["slug"])

        def read(connection: Connection) -> tuple[str, str, Rendered]:
            person, issue = get(connection, number), issues.named(connection, slug)
            if person is None:
                raise SourceError(f"there is no subscriber {written[:20]}")
            return person.address, issue.title, sent_message(connection, desk.settings, issue.id, number)

        address, title, found = await desk.read(read)
        heading(title, above=(f"/subscribers/{number}", address))
        show(note("With their name and fields of today. The links lead to their targets without counting."))
        with card():
            message = email.message_from_bytes(found.message, policy=email.policy.default)
            show(facts((name, str(message[name])) for name in _SHOWN_HEADERS))
        show_frame(visit, found.html, "Email")

    async def clicks(visit: Visit, request: Request) -> None:
        slug = str(request.path_params["slug"])

        def read(connection: Connection) -> tuple[str, str, str]:
            issue = issues.named(connection, slug)
            found = issue_statistics(connection, issue.id)
            people = {link.place: link.clickers for link in found.links} if found else {}
            edition = issues.edition(connection, issue.edition_digest)
            return issue.slug, issue.title, with_clicks(desk.settings, edition, people)

        await desk.count()
        name, title, html = await desk.read(read)
        heading("Clicks in the email", above=(issue_path(name), title))
        show(note("The number beside a link: the people who agreed to tracking and clicked it."))
        show_frame(visit, html, "The email with its clicks")

    add_page(desk, "/subscribers/{number}/email/{slug}", "Email", one)
    add_page(desk, "/issues/{slug}/clicks", "Clicks", clicks)
