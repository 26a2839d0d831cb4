"""`mailer status --watch` on a terminal: a table that is kept up to date, by mailbox provider."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mailer.cli.units import duration
from mailer.config import Settings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery import issues, runs
from mailer.delivery.books import Books, books_of
from mailer.reports.progress import ProviderBooks, by_provider, largest
from mailer.review import directory
from mailer.review.table import doing

_LOOK_SECONDS: Final = 2.0
_PATIENCE: Final = 10
"""Looking takes at most one part in so many of the time, however large the issue is."""
_MOST_PROVIDERS: Final = 12
_STATES: Final = (
    DeliveryState.SENT,
    DeliveryState.QUEUED,
    DeliveryState.SENDING,
    DeliveryState.DEFERRED,
    DeliveryState.FAILED,
    DeliveryState.UNCERTAIN,
    DeliveryState.SKIPPED,
)


@dataclass(frozen=True, slots=True)
class Look:
    """One issue at one moment."""

    slug: str
    doing: str
    reason: str
    books: Books
    providers: Sequence[ProviderBooks]


def look(database: Database, settings: Settings, name: str | None) -> list[Look]:
    """Return the issue of this name, or all issues that are not finished."""
    with database.reading() as connection:
        if name is not None:
            wanted = [directory.queued(connection, settings, name)]
        else:
            wanted = [one for one in issues.issues(connection) if one.finished_at is None]
        running = {run.issue_id for run in runs.sending(connection)}
        found = []
        for one in wanted:
            books = books_of(connection, one.id)
            state = doing(one, books, running=one.id in running)
            providers = largest(by_provider(connection, one.id, settings.provider_of_domain), _MOST_PROVIDERS)
            found.append(Look(one.slug, state, one.reason or "", books, providers))
    return found


def watch(
    database: Database,
    settings: Settings,
    name: str | None,
    *,
    console: Console | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> None:
    """Show the table until Ctrl-C; `wait` gets the seconds until the next look."""
    before: dict[str, tuple[float, int]] = {}
    with Live(console=console, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            found = look(database, settings, name)
            took = time.monotonic() - began
            rates = {}
            for one in found:
                then, sent = before.get(one.slug, (began, one.books.sent))
                rates[one.slug] = (one.books.sent - sent) / (began - then) if began > then else 0.0
                before[one.slug] = (began, one.books.sent)
            live.update(picture(found, rates), refresh=True)
            wait(max(_LOOK_SECONDS, took * _PATIENCE))


def picture(found: Sequence[Look], rates: dict[str, float]) -> RenderableType:
    """Return the tables of all issues; `rates` are messages per second."""
    if not found:
        return Text("No issue is open. mailer status shows all of them.")
    return Group(*(_table(one, rates.get(one.slug, 0.0)) for one in found))


def _table(one: Look, rate: float) -> Table:
    title = f"{one.slug}: {one.doing}" + (f" ({one.reason})" if one.reason else "")
    left = one.books.queued + one.books.sending
    if rate > 0:
        title += f", {rate:,.1f} messages per second"
        if left:
            title += f", {duration(timedelta(seconds=left / rate))} left"
    shown = [state for state in _STATES if any(each.states.get(state) for each in one.providers)]
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("provider", overflow="ellipsis", max_width=28)
    for heading in ("all", *(state.value for state in shown)):
        table.add_column(heading, justify="right")
    for each in one.providers:
        numbers = [each.recipients, *(each.states.get(state, 0) for state in shown)]
        table.add_row(Text(each.name), *(f"{number:,}" for number in numbers))
    if len(one.providers) > 1:
        sums = [sum(each.states.get(state, 0) for each in one.providers) for state in shown]
        table.add_section()
        table.add_row("all", *(f"{number:,}" for number in (one.books.audience, *sums)))
    return table
