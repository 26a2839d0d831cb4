"""The people behind an issue's numbers: its deliveries in one state, or of one class of bounces."""

from __future__ import annotations

from itertools import islice
from typing import Final
from urllib.parse import quote

from markupsafe import Markup
from sqlalchemy.orm import Session
from starlette.requests import Request

from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import Cell, issue_path, link, nav, person, show, table, tag, when
from mailer.console.results import people_link
from mailer.database.models import DeliveryState
from mailer.delivery import issues
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.listing import Listed, listing

_MOST: Final = 200


def add_pages(desk: Desk) -> None:
    """Add the page of an issue's deliveries."""

    async def build(visit: Visit, request: Request) -> None:
        slug = str(request.path_params["slug"])
        wanted = request.query_params.get("state", "")
        state = DeliveryState(wanted) if wanted in list(DeliveryState) else DeliveryState.SENT
        only = request.query_params.get("class", "")[:32] or None

        def found(session: Session) -> tuple[QueuedIssue, list[Listed]]:
            issue = issues.named(session, slug)
            rows = listing(session, issue.id, state, bounce_class=only)
            return issue, list(islice(rows, _MOST + 1))

        issue, people = await desk.read(found)
        with heading(f"{issue.title}: {state}", above=(issue_path(issue.slug), issue.title)):
            people_link(visit, issue.slug, state)
        path = f"/issues/{quote(issue.slug, safe='')}/deliveries"
        show(nav("States", [(f"{path}?state={one}", one.value) for one in DeliveryState], state.value))
        if only:
            every = link(f"{path}?state={state}", "Show all classes")
            show(Markup("<p>Only the class {}. {}</p>").format(tag(only), every))
        with card():
            show(_table(people[:_MOST]))
            if len(people) > _MOST:
                show(Markup('<p class="soft">The first {} are shown.</p>').format(_MOST))

    add_page(desk, "/issues/{slug}/deliveries", "Deliveries", build)


def _table(people: list[Listed]) -> Markup:
    if not people:
        return Markup('<p class="empty">There are no such deliveries.</p>')

    def row(one: Listed) -> tuple[Cell, ...]:
        name = person(one.subscriber_id, one.address) if one.address else "(erased)"
        return (
            name,
            str(one.attempts),
            when(one.changed_at),
            tag(one.bounce_class) if one.bounce_class else "",
            one.answer[:300],
        )

    return table(
        ("Subscriber", "#Attempts", "@Changed", "@Class", "Answer"), map(row, people), wide=(1, 2, 3)
    )
