"""Bounces and complaints: the reports, and the conclusions drawn from them."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request

from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.lifting import Lifting
from mailer.console.markup import (
    Cell,
    breakable,
    facts,
    figure,
    figures,
    link,
    person,
    show,
    table,
    tag,
    when,
)
from mailer.console.users import Role
from mailer.errors import SourceError
from mailer.printable import whole_number
from mailer.reports.bounces import BounceRow, bounce_report, bounce_row, bounce_rows

_PAGE: Final = 50
_MOST_SHOWN: Final = 20_000
_OUTCOMES: Final = ("applied", "ignored", "unmatched", "foreign")


def add_pages(desk: Desk) -> None:
    """Add the list of reports, and the page of one report."""

    async def listed(visit: Visit, request: Request) -> None:
        asked = {key: request.query_params.get(key, "")[:40] for key in ("outcome", "kind", "before")}
        before = whole_number(asked["before"])
        summary = await desk.read(bounce_report)
        rows = await desk.read(
            lambda connection: bounce_rows(
                connection, outcome=asked["outcome"], kind=asked["kind"], limit=_PAGE, before_id=before
            )
        )
        heading("Bounces")
        show(
            figures(
                figure(f"{summary.by_outcome.get(one, 0):,}", one, f"/bounces?outcome={one}")
                for one in _OUTCOMES
            )
        )
        with card("Reports"):
            show(_table(rows))
            if len(rows) == _PAGE:
                following = urlencode(asked | {"before": str(rows[-1].id)})
                show(Markup('<p><a href="/bounces?{}">Older ones</a></p>').format(following))
        if summary.suppressions:
            with card("Suppressed addresses, by reason"):
                show(facts((reason, f"{number:,}") for reason, number in summary.suppressions.items()))
        if visit.visitor.role.may(Role.ADMIN):
            Lifting(desk, visit).build()

    async def single(visit: Visit, request: Request) -> None:
        written = str(request.path_params["number"])
        number = whole_number(written) or 0
        found = await desk.read(lambda connection: bounce_row(connection, number))
        if found is None:
            raise SourceError(f"there is no report {written[:20]}", remedy="see the list of reports")
        row, raw = found
        heading(f"Report {row.id}", above=("/bounces", "Bounces"))
        with card("Judged"):
            show(facts(_judged(row)))
        with card("As it arrived"):
            text = raw[:_MOST_SHOWN].decode("utf-8", "replace")
            show(Markup('<pre class="diff" tabindex="0">{}</pre>').format(text))

    add_page(desk, "/bounces", "Bounces", listed)
    add_page(desk, "/bounces/{number}", "Report", single)


def _table(rows: list[BounceRow]) -> Markup:
    if not rows:
        return Markup('<p class="empty">There are no such reports.</p>')
    return table(
        ("@Received", "Recipient", "@Outcome", "@Kind", "@Class", "Source"),
        [
            (
                link(f"/bounces/{row.id}", when(row.received_at)),
                _who(row),
                tag(row.outcome),
                row.kind,
                row.bounce_class,
                row.source,
            )
            for row in rows
        ],
        wide=(3, 4, 5),
        stacked=True,
    )


def _who(row: BounceRow) -> Cell:
    name = row.recipient or "–"
    return person(row.subscriber_id, name) if row.subscriber_id else breakable(name)


def _judged(row: BounceRow) -> list[tuple[str, Cell]]:
    pairs: list[tuple[str, Cell]] = [
        ("Recipient", _who(row)),
        ("Received", when(row.received_at)),
        ("Kind", row.kind),
        ("Outcome", tag(row.outcome)),
        ("Class", f"{row.bounce_class or '–'}{', hard' if row.hard else ''}"),
        ("Source", row.source),
    ]
    return pairs + [(str(name), str(value)[:500]) for name, value in row.details.items()]
