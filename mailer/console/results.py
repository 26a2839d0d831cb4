"""The results of an issue: delivery, opens and clicks, links, bounces, unsubscribes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import FastAPI
from markupsafe import Markup
from sqlalchemy import Connection
from starlette.responses import Response

from mailer.console.by_provider import provider_table
from mailer.console.desk import Desk
from mailer.console.frame import card
from mailer.console.markup import breakable, chart, figure, figures, issue_path, link, note, show, table
from mailer.database.tables import IssueState
from mailer.delivery import issues
from mailer.delivery.issues import QueuedIssue
from mailer.printable import counted
from mailer.reports.statistics import (
    HourFigures,
    IssueStatistics,
    LinkFigures,
    counted_at,
    first_hours,
    issue_statistics,
)
from mailer.reports.tables import write_table

_MOST_HOURS: Final = 7 * 24


async def show_results(desk: Desk, issue: QueuedIssue) -> None:
    """Add the results of an issue to the page."""
    await desk.count()
    domains = desk.settings.provider_of_domain

    def read(connection: Connection) -> tuple[IssueStatistics | None, datetime | None]:
        return issue_statistics(connection, issue.id, providers=domains), counted_at(connection)

    found, at = await desk.read(read)
    if found is None or not found.figures.sent:
        return
    with card("Readers"):
        show(_readers(issue.slug, found, at))
    hours = first_hours(found.hours, _MOST_HOURS)
    if len(hours) > 1:
        show(Markup('<div class="split">{}</div>').format(Markup("").join(_responses(issue.slug, hours))))
    if found.links:
        with card("Links"):
            show(_links(issue.slug, found))
            show(
                Markup('<p><a href="{}/clicks">See them in the email</a> · {}</p>').format(
                    issue_path(issue.slug), _csv_link("links", issue.slug)
                )
            )
    # While it is sent, the page has a newer count of the providers.
    running = issue.state in (IssueState.SENDING, IssueState.PAUSED)
    sections = list(_breakdowns(issue.slug, found, hours, providers=not running))
    if sections:
        show(Markup('<div class="split">{}</div>').format(Markup("").join(sections)))


def _csv_link(name: str, slug: str) -> Markup:
    return link(f"/{name}.csv?{urlencode({'issue': slug})}", "Download as CSV")


def _readers(slug: str, found: IssueStatistics, at: datetime | None) -> Markup:
    one, base = found.figures, f"{issue_path(slug)}/readers"
    machines = one.machine_opens + one.machine_clicks
    said = f"Opens and clicks are counted for the {counted(one.tracked, 'reader')} who agreed to tracking."
    if machines:
        said += f" Machines made {counted(machines, 'more request')}; these don't count."
    if at is not None:
        said += f" Counted at {at.astimezone():%H:%M:%S}."
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


def _times(hours: Sequence[HourFigures]) -> list[str]:
    return [f"{one.at.astimezone():%m-%d %H:00}" for one in hours]


def _responses(slug: str, hours: Sequence[HourFigures]) -> Iterator[Markup]:
    """Yield the curves of opens and clicks, each with that of the machines."""
    for what in ("opens", "clicks"):
        title, people = f"{what.capitalize()} by hour", [getattr(one, what) for one in hours]
        curves = {"People": people}
        if any(machines := [getattr(one, f"machine_{what}") for one in hours]):
            curves["Machines"] = machines
        yield _section(title, chart(title, _times(hours), curves))


def _links(slug: str, found: IssueStatistics) -> Markup:
    base = f"{issue_path(slug)}/readers?kind=click&link="
    rows = [
        (
            breakable(one.address),
            f"{one.clicks:,}",
            link(f"{base}{one.place}", f"{one.clickers:,}"),
            f"{one.machine_clicks:,}",
        )
        for one in found.links
    ]
    return table(("*Link", "#Clicks", "#People", "#Machines"), rows, wide=(3,))


def _breakdowns(
    slug: str, found: IssueStatistics, hours: Sequence[HourFigures], *, providers: bool
) -> Iterator[Markup]:
    path = issue_path(slug)
    sent = [(at, one.sent) for at, one in zip(_times(hours), hours, strict=True)]
    while sent and not sent[-1][1]:
        sent.pop()
    if len(sent) > 1:
        curve = chart("Sent by hour", [at for at, _ in sent], {"Sent": [number for _, number in sent]})
        yield _section("Sent by hour", curve + Markup("<p>{}</p>").format(_csv_link("hours", slug)))
    if providers and found.providers:
        columns = {
            "Recipients": f"{path}/deliveries?state=all",
            "Failed": f"{path}/deliveries?state=failed",
            "Opened": f"{path}/readers?kind=open",
        }
        rows = [(one.name, (one.recipients, one.failed, one.openers)) for one in found.providers]
        yield _section("By provider", provider_table(columns, rows, wide=(1,)))
    if found.failures:
        failed = f"{path}/deliveries?state=failed"
        classes = [
            (name or "none", link(f"{failed}&class={quote(name)}", f"{number:,}"))
            for name, number in sorted(found.failures.items(), key=lambda item: -item[1])
        ]
        yield _section("Failed, by class", table(("*Class", "#Deliveries"), classes))
    if found.departures:
        left = f"{path}/readers?kind=unsubscribed"
        ways = [
            (way, link(f"{left}&way={quote(way)}", f"{number:,}")) for way, number in found.departures.items()
        ]
        yield _section("Unsubscribed, by way", table(("*Way", "#People"), ways))


def _section(title: str, content: Markup) -> Markup:
    return Markup('<section class="card"><div><h2>{}</h2>{}</div></section>').format(title, content)


def add_routes(desk: Desk, app: FastAPI) -> None:
    """Add an issue's links and hours as CSV, as `mailer stats ISSUE` prints them."""

    def add(path: str, kind: type[Any], rows: Callable[[IssueStatistics], Sequence[Any]]) -> None:
        async def answer(issue: str = "") -> Response:
            def write(connection: Connection) -> str:
                found = issue_statistics(connection, issues.named(connection, issue).id)
                text = io.StringIO()
                write_table(text, kind, rows(found) if found else ())
                return text.getvalue()

            content = await desk.read(write)
            headers = {
                "content-disposition": f'attachment; filename="{path}"',
                "cache-control": "no-store",
            }
            return Response(content, media_type="text/csv", headers=headers)

        app.add_api_route(f"/{path}", answer, methods=["GET"], response_model=None)

    add("links.csv", LinkFigures, lambda found: found.links)
    add("hours.csv", HourFigures, lambda found: found.hours)
