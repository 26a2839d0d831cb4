"""The people behind an issue's numbers: its deliveries, by state, class of bounces and mailbox provider."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from markupsafe import Markup
from sqlalchemy import Connection
from starlette.requests import Request

from mailer.console.by_provider import Providers
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import Cell, issue_path, limited, nav, pages, person, show, table, tag, when
from mailer.console.readers import people_link
from mailer.database.tables import DeliveryState
from mailer.delivery import issues
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.listing import Listed, page
from mailer.printable import whole_number

_MOST: Final = 200
_ALL: Final = "all"


def add_pages(desk: Desk) -> None:
    """Add the page of an issue's deliveries."""

    async def build(visit: Visit, request: Request) -> None:
        slug, asked = str(request.path_params["slug"]), request.query_params
        wanted = asked.get("state", "")
        state = DeliveryState(wanted) if wanted in list(DeliveryState) else None
        if state is None and wanted != _ALL:
            state = DeliveryState.SENT
        only, providers = asked.get("class", "")[:32] or None, Providers.asked(asked)
        after = whole_number(asked.get("after", "")) or 0
        among = providers.condition(desk.settings.provider_of_domain) if providers else None

        def read(connection: Connection) -> tuple[QueuedIssue, list[Listed]]:
            issue, limit = issues.named(connection, slug), _MOST + 1
            return issue, page(
                connection, issue.id, state, after=after, limit=limit, bounce_class=only, among=among
            )

        issue, people = await desk.read(read)
        above, word = (issue_path(issue.slug), issue.title), state or _ALL
        with heading(f"{issue.title}: {state or 'all deliveries'}", above=above):
            if state and not only and not providers:
                people_link(visit, issue.slug, state)
        base = f"{above[0]}/deliveries?state="
        states = (_ALL, *(one.value for one in DeliveryState))
        show(nav("States", [(f"{base}{one}", one) for one in states], word))
        limits = {urlencode({"class": only}): only} if only else {}
        limits |= {providers.query: str(providers)} if providers else {}
        if limits:
            show(limited(limits, f"{base}{word}"))
        with card():
            show(_table(people[:_MOST], with_state=state is None))
            following = people[_MOST - 1].subscriber_id if len(people) > _MOST else None
            show(pages("&".join((f"{base}{word}", *limits)), after, following))

    add_page(desk, "/issues/{slug}/deliveries", "Deliveries", build)


def _table(people: list[Listed], *, with_state: bool) -> Markup:
    if not people:
        return Markup('<p class="empty">There are no such deliveries.</p>')

    def row(one: Listed) -> tuple[Cell, ...]:
        name = person(one.subscriber_id, one.address) if one.address else "(erased)"
        state = (tag(one.state),) if with_state else ()
        bounce_class = tag(one.bounce_class) if one.bounce_class else ""
        return name, *state, str(one.attempts), when(one.changed_at), bounce_class, one.answer[:300]

    heads = ("Subscriber", *(("@State",) if with_state else ()), "#Attempts", "@Changed", "@Class", "Answer")
    wide = [heads.index(one) for one in ("#Attempts", "@Changed", "@Class")]
    if with_state:
        wide.append(heads.index("Answer"))
    return table(heads, map(row, people), wide=wide)
