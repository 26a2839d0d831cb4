"""The people behind an issue's numbers: who opened, clicked or left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal, TextIO
from urllib.parse import urlencode

from fastapi import FastAPI
from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from mailer.console.by_provider import Providers
from mailer.console.desk import Change, Desk, Visit
from mailer.console.downloads import download
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import issue_path, limited, nav, pages, person, show, table, when
from mailer.console.users import Role
from mailer.database.tables import SubscriberStatus
from mailer.delivery import issues
from mailer.errors import SourceError
from mailer.printable import whole_number
from mailer.reports.people import Leaver, Responder, leavers, responders
from mailer.review.people_csv import GROUPS, write_people

_MOST: Final = 200
_DEPARTURES: Final = ("unsubscribed", "bounced", "complained")
_KINDS: Final = {"open": "opened", "click": "clicked", **{word: word for word in _DEPARTURES}}
"""The kinds of readers with the words for them."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page of people."""

    content: Markup
    following: int | None
    """The id after which the next page begins; None on the last."""
    limits: Mapping[str, str]
    """What limits the list, in words, by its part of the address."""


def add_pages(desk: Desk) -> None:
    """Add the page of the people who opened, clicked or left."""

    async def build(visit: Visit, request: Request) -> None:
        slug, asked = str(request.path_params["slug"]), request.query_params
        kind = asked.get("kind", "")
        kind, after = kind if kind in _KINDS else "open", whole_number(asked.get("after", "")) or 0
        issue = await desk.read(lambda connection: issues.named(connection, slug))
        found = await (_leavers if kind in _DEPARTURES else _responders)(desk, issue.id, kind, asked, after)
        base, word = f"{issue_path(issue.slug)}/readers?kind=", _KINDS[kind]
        with heading(f"Who {word}", above=(issue_path(issue.slug), issue.title)):
            if not found.limits:
                people_link(visit, issue.slug, word)
        show(nav("Readers", [(f"{base}{one}", each) for one, each in _KINDS.items()], word))
        if found.limits:
            show(limited(found.limits, f"{base}{kind}"))
        with card():
            show(found.content)
            show(pages("&".join((f"{base}{kind}", *found.limits)), after, found.following))

    add_page(desk, "/issues/{slug}/readers", "Readers", build)


async def _responders(desk: Desk, issue_id: int, kind: str, asked: QueryParams, after: int) -> _Page:
    what: Literal["open", "click"] = "click" if kind == "click" else "open"
    place, providers = whole_number(asked.get("link", ""), digits=5), Providers.asked(asked)
    among = providers.condition(desk.settings.provider_of_domain) if providers else None

    def read(connection: Connection) -> list[Responder]:
        found = responders(connection, issue_id, what, link=place, among=among, after=after)
        return list(islice(found, _MOST + 1))

    people = await desk.read(read)
    rows = [(person(one.subscriber_id, one.address), when(one.first_at), str(one.times)) for one in people]
    content = table(("*Subscriber", "@First time", "#Times"), rows[:_MOST], wide=(2,))
    limits = {f"link={place}": f"link {place + 1}"} if place is not None else {}
    limits |= {providers.query: str(providers)} if providers else {}
    return _Page(
        content if people else Markup('<p class="empty">Nobody who agreed to tracking.</p>'),
        people[_MOST - 1].subscriber_id if len(people) > _MOST else None,
        limits,
    )


async def _leavers(desk: Desk, issue_id: int, kind: str, asked: QueryParams, after: int) -> _Page:
    status, way = SubscriberStatus(kind), asked.get("way", "")[:32]

    def read(connection: Connection) -> list[Leaver]:
        return list(islice(leavers(connection, issue_id, status, way=way, after=after), _MOST + 1))

    people = await desk.read(read)
    rows = [(person(one.subscriber_id, one.address), when(one.at), one.way, one.note) for one in people]
    content = table(("Subscriber", "@Time", "@Way", "*Reason"), rows[:_MOST], wide=(1, 2))
    return _Page(
        content if people else Markup('<p class="empty">Nobody.</p>'),
        people[_MOST - 1].line if len(people) > _MOST else None,
        {urlencode({"way": way}): way} if way else {},
    )


def people_link(visit: Visit, slug: str, group: str) -> None:
    """Add the link to the whole list of people as CSV, which admins may download."""
    if visit.visitor.role.may(Role.ADMIN):
        query = urlencode({"issue": slug, "group": group})
        ui.link("Download as CSV", f"/people.csv?{query}")


def add_routes(desk: Desk, app: FastAPI) -> None:
    """Add the people behind a number as CSV, as `mailer stats ISSUE --people` prints them."""

    async def people(request: Request, issue: str = "", group: str = "") -> Response:
        if group not in GROUPS:
            raise SourceError(f"There is no group of people called '{group}'")

        def write(connection: Connection, target: TextIO) -> None:
            write_people(connection, target, issues.named(connection, issue).id, group)

        change = Change("issue.export_people", issue, {"group": group})
        return await download(desk, request, change, f"{group}.csv", write)

    app.add_api_route("/people.csv", people, methods=["GET"], response_model=None)
