"""The results of an issue: delivery, opens and clicks, links, bounces, unsubscribes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, fields
from itertools import islice
from typing import Final, Literal, TextIO
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from markupsafe import Markup
from nicegui import ui
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response

from mailer.console.desk import Change, Desk, Visit
from mailer.console.downloads import download
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import (
    chart,
    figure,
    figures,
    issue_path,
    link,
    nav,
    note,
    person,
    show,
    table,
    when,
)
from mailer.console.users import Role
from mailer.database.models import IssueState, SubscriberStatus
from mailer.delivery import issues
from mailer.delivery.issues import QueuedIssue
from mailer.errors import SourceError
from mailer.printable import counted, whole_number
from mailer.reports.people import Leaver, Responder, leavers, responders
from mailer.reports.statistics import IssueStatistics, LinkFigures, issue_statistics
from mailer.review.people_csv import GROUPS, write_people

_MOST: Final = 200
_DEPARTURES: Final = ("unsubscribed", "bounced", "complained")
_KINDS: Final = {"open": "opened", "click": "clicked", **{word: word for word in _DEPARTURES}}
"""The kinds of readers with the words for them."""


async def show_results(desk: Desk, issue: QueuedIssue) -> None:
    """Add the results of an issue to the page."""
    await desk.count()
    domains = desk.providers
    found = await desk.read(lambda session: issue_statistics(session, issue.id, providers=domains))
    if found is None or not found.figures.sent:
        return
    with card("Readers"):
        show(_readers(issue.slug, found))
    hours = [(f"{one.at.astimezone():%m-%d %H:00}", one) for one in found.hours]
    if len(hours) > 1:
        show(Markup('<div class="split">{}{}</div>').format(
            _chart_card("Sent by hour", [(at, one.sent) for at, one in hours]),
            _chart_card("Opens and clicks by hour", [(at, one.opens + one.clicks) for at, one in hours]),
        ))  # fmt: skip
    if found.links:
        with card("Links"):
            show(_links(issue.slug, found))
            show(
                Markup('<p><a href="{}/clicks">See them in the email</a> · '
                       '<a href="/links.csv?issue={}">Download as CSV</a></p>').format(
                    issue_path(issue.slug), quote(issue.slug, safe="")
                )
            )  # fmt: skip
    # While it is sent, the page has a newer count of the providers.
    running = issue.state in (IssueState.SENDING, IssueState.PAUSED)
    sections = list(_breakdowns(issue.slug, found, providers=not running))
    if sections:
        show(Markup('<div class="split">{}</div>').format(Markup("").join(sections)))


def _readers(slug: str, found: IssueStatistics) -> Markup:
    one, base = found.figures, f"/issues/{quote(slug, safe='')}/readers"
    machines = one.machine_opens + one.machine_clicks
    said = f"Opens and clicks are counted for the {counted(one.tracked, 'reader')} who agreed to tracking."
    if machines:
        said += f" Machines made {counted(machines, 'more request')}; these don't count."
    return figures(
        [
            figure(f"{one.openers:,}", _with_rate("opened", one.open_rate), f"{base}?kind=open"),
            figure(f"{one.clickers:,}", _with_rate("clicked", one.click_rate), f"{base}?kind=click"),
            figure(
                f"{one.unsubscribed:,}",
                _with_rate("unsubscribed", one.unsubscribe_rate),
                f"{base}?kind=unsubscribed",
            ),
            figure(
                f"{one.complaints:,}", _with_rate("complained", one.complaint_rate), "/bounces?kind=complaint"
            ),
        ]
    ) + Markup('<div style="margin-top:12px">{}</div>').format(note(said))


def _with_rate(word: str, rate: float | None) -> str:
    return word if rate is None else f"{word}, {rate:.1%}"


def _links(slug: str, found: IssueStatistics) -> Markup:
    base = f"/issues/{quote(slug, safe='')}/readers?kind=click&link="
    return table(
        ("Link", "#Clicks", "#People", "#Machines"),
        [
            (
                one.address,
                f"{one.clicks:,}",
                Markup('<a href="{}{}">{}</a>').format(base, one.place, f"{one.clickers:,}"),
                f"{one.machine_clicks:,}",
            )
            for one in found.links
        ],
        wide=(3,),
    )


def _breakdowns(slug: str, found: IssueStatistics, *, providers: bool) -> Iterator[Markup]:
    if found.failures:
        failed = f"{issue_path(slug)}/deliveries?state=failed"
        rows = [
            (name or "none", link(f"{failed}&class={quote(name)}", f"{number:,}"))
            for name, number in sorted(found.failures.items(), key=lambda item: -item[1])
        ]
        yield _section("Failed, by class", table(("Class", "#Deliveries"), rows))
    if found.departures:
        left = f"{issue_path(slug)}/readers?kind=unsubscribed"
        ways = [
            (way, link(f"{left}&way={quote(way)}", f"{number:,}")) for way, number in found.departures.items()
        ]
        yield _section("Unsubscribed, by way", table(("Way", "#People"), ways))
    if providers and found.providers:
        groups = [
            (one.name or "others", f"{one.recipients:,}", f"{one.failed:,}", f"{one.openers:,}")
            for one in found.providers[:10]
        ]
        yield _section("By provider", table(("Provider", "#Recipients", "#Failed", "#Opened"), groups))


def _section(title: str, content: Markup) -> Markup:
    return Markup('<section class="card"><div><h2>{}</h2>{}</div></section>').format(title, content)


def _chart_card(title: str, points: list[tuple[str, int]]) -> Markup:
    return _section(title, chart(title, points))


def add_pages(desk: Desk) -> None:
    """Add the page of the people who opened, clicked or left."""

    async def build(visit: Visit, request: Request) -> None:
        slug, asked = str(request.path_params["slug"]), request.query_params
        kind = asked.get("kind", "")
        issue = await desk.read(lambda session: issues.named(session, slug))
        if kind in _DEPARTURES:
            status, way = SubscriberStatus(kind), asked.get("way", "")[:32]
            gone = await desk.read(
                lambda session: list(islice(leavers(session, issue.id, status, way=way), _MOST))
            )
            group, content = kind, _leavers(gone)
        else:
            place = whole_number(asked.get("link", ""), digits=5)
            what: Literal["open", "click"] = "click" if kind == "click" else "open"
            people = await desk.read(
                lambda session: list(islice(responders(session, issue.id, what, link=place), _MOST))
            )
            group, content = _KINDS[what], _people(people)
        with heading(f"Who {group}", above=(issue_path(issue.slug), issue.title)):
            people_link(visit, issue.slug, group)
        base = f"/issues/{quote(issue.slug, safe='')}/readers?kind="
        show(nav("Readers", [(f"{base}{one}", word) for one, word in _KINDS.items()], group))
        with card():
            show(content)

    add_page(desk, "/issues/{slug}/readers", "Readers", build)


def people_link(visit: Visit, slug: str, group: str) -> None:
    """Add the link to the whole list of people as CSV, which admins may download."""
    if visit.visitor.role.may(Role.ADMIN):
        query = urlencode({"issue": slug, "group": group})
        ui.link("Download as CSV", f"/people.csv?{query}")


def _people(people: list[Responder]) -> Markup:
    if not people:
        return Markup('<p class="empty">Nobody who agreed to tracking.</p>')
    rows = [(person(one.subscriber_id, one.address), when(one.first_at), str(one.times)) for one in people]
    return table(("Subscriber", "@First time", "#Times"), rows, wide=(2,))


def _leavers(people: list[Leaver]) -> Markup:
    if not people:
        return Markup('<p class="empty">Nobody.</p>')
    rows = [(person(one.subscriber_id, one.address), when(one.at), one.way, one.note) for one in people]
    return table(("Subscriber", "@Time", "@Way", "Reason"), rows, wide=(1,))


def add_routes(desk: Desk, app: FastAPI) -> None:
    """Add the links and the people of an issue as CSV, as `mailer stats ISSUE --csv` prints them."""

    async def people(request: Request, issue: str = "", group: str = "") -> Response:
        if group not in GROUPS:
            raise SourceError(f"There is no group of people called '{group}'")

        def write(session: Session, target: TextIO) -> None:
            write_people(session, target, issues.named(session, issue).id, group)

        change = Change("issue.export_people", issue, {"group": group})
        return await download(desk, request, change, f"{group}.csv", write)

    async def links(issue: str = "") -> Response:
        def write(session: Session) -> str:
            found = issue_statistics(session, issues.named(session, issue).id)
            text = io.StringIO()
            writer = csv.DictWriter(text, [one.name for one in fields(LinkFigures)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(one) for one in (found.links if found else ()))
            return text.getvalue()

        content = await desk.read(write)
        headers = {
            "content-disposition": 'attachment; filename="links.csv"',
            "cache-control": "no-store",
        }
        return Response(content, media_type="text/csv", headers=headers)

    app.add_api_route("/people.csv", people, methods=["GET"], response_model=None)
    app.add_api_route("/links.csv", links, methods=["GET"], response_model=None)
