"""`mailer stats`: statistics of the list and its issues."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from mailer.cli.app import App, Command, json_option, pass_app
from mailer.cli.charts import bars, sparkline
from mailer.printable import blanked, counted
from mailer.reports import statistics
from mailer.reports.overview import Overview, overview
from mailer.reports.rollups import refresh
from mailer.reports.statistics import (
    GroupFigures,
    HourFigures,
    IssueFigures,
    IssueStatistics,
    LinkFigures,
)
from mailer.reports.tables import write_table
from mailer.review import directory
from mailer.review.people_csv import GROUPS, write_people

if TYPE_CHECKING:
    from rich.table import Table

_WEEK: Final = 7
_CURVES: Final = {
    "sent": "sent",
    "opens": "opens",
    "clicks": "clicks",
    "machine_opens": "opens by machines",
    "machine_clicks": "clicks by machines",
}
"""What is drawn of each hour."""
_RATES: Final = ("open_rate", "click_rate", "bounce_rate", "complaint_rate", "unsubscribe_rate")


@click.command(cls=Command)
@click.argument("issue", required=False)
@click.option(
    "--days",
    default=365,
    show_default=True,
    type=click.IntRange(1, 3660),
    metavar="N",
    help="Without ISSUE: count the last N days.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: one row for each issue, or link of ISSUE.")
@click.option(
    "--people",
    type=click.Choice(GROUPS),
    metavar="GROUP",
    help=f"Print the people behind a number of ISSUE as CSV: {', '.join(GROUPS)}.",
)
@click.option("--hours", is_flag=True, help="Print what happened to ISSUE in each hour as CSV.")
@click.option("--chart", is_flag=True, help="Draw charts.")
@click.option("--rebuild", is_flag=True, help="Count everything again first, as far back as events are kept.")
@pass_app
def stats(
    app: App,
    issue: str | None,
    days: int,
    as_json: bool,
    as_csv: bool,
    people: str | None,
    hours: bool,
    chart: bool,
    rebuild: bool,
) -> None:
    """Show statistics of the list, or of ISSUE.

    Opens and clicks by machines, such as scanners and image proxies, are counted separately. Only
    subscribers who agreed to tracking are counted as people; everyone else's opens and clicks have no name.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv can't be combined")
    for name, given in (("--people", people is not None), ("--hours", hours)):
        if given and (issue is None or as_json):
            raise click.UsageError(f"{name} needs ISSUE and prints CSV")
    if people is not None and issue is not None:
        with app.database.reading() as connection:
            write_people(connection, sys.stdout, directory.queued(connection, app.settings, issue).id, people)
        return
    at = datetime.now(UTC)
    kept_since = at - app.settings.retention.events
    refresh(
        app.database,
        at=at,
        segments=app.settings.segments,
        quiet_days=app.settings.bounces.quiet_days,
        rebuild=rebuild,
        kept_since=kept_since,
    )
    with app.database.reading() as connection:
        if issue is None:
            _show_list(
                app, overview(connection, at=at, days=days), as_json=as_json, as_csv=as_csv, chart=chart
            )
            return
        issue_id = directory.queued(connection, app.settings, issue).id
        providers = app.settings.provider_of_domain
        found = statistics.issue_statistics(connection, issue_id, providers=providers)
        assert found is not None
    if hours:
        write_table(sys.stdout, HourFigures, found.hours)
        return
    _show_issue(app, found, as_json=as_json, as_csv=as_csv, chart=chart)


def _show_list(app: App, found: Overview, *, as_json: bool, as_csv: bool, chart: bool) -> None:
    if as_json:
        rows = [_row(one) for one in found.issues]
        app.emit({**msgspec.to_builtins(found), "issues": rows})
    elif as_csv:
        _write_csv([_row(one) for one in found.issues])
    else:
        for part in _list_lines(found, chart=chart):
            _print(app, part)


def _show_issue(app: App, found: IssueStatistics, *, as_json: bool, as_csv: bool, chart: bool) -> None:
    if as_json:
        app.emit({**msgspec.to_builtins(found), "figures": _row(found.figures)})
    elif as_csv:
        write_table(sys.stdout, LinkFigures, found.links)
    else:
        for part in _issue_lines(found, chart=chart):
            _print(app, part)


def _row(one: IssueFigures) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), **{name: getattr(one, name) for name in _RATES}}


def _write_csv(rows: Iterable[dict[str, Any]]) -> None:
    columns = [*IssueFigures.__struct_fields__, *_RATES]
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print(app: App, part: str | Table) -> None:
    if isinstance(part, str):
        app.out(part)
        return
    # Imported on use: it takes a while.
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        # A pipe has no width; nothing is cut.
        console.width = 200
    console.print(part)


def _list_lines(found: Overview, *, chart: bool) -> Iterator[str | Table]:
    statuses = found.health.statuses
    yield f"{counted(statuses['active'], 'active subscriber')}, {statuses['pending']:,} pending"
    joined, left = (sum(getattr(day, name) for day in found.growth) for name in ("joined", "left"))
    bounced = sum(day.bounced + day.complained for day in found.growth)
    yield (
        f"in {len(found.growth)} days: {joined:,} joined, {left:,} left, {bounced:,} bounced or complained"
    )
    if chart:
        weeks = [found.growth[max(end - _WEEK, 0) : end] for end in range(len(found.growth), 0, -_WEEK)][::-1]
        yield f"  active  {sparkline([week[-1].active for week in weeks])}"
        yield f"  joined  {sparkline([sum(day.joined for day in week) for week in weeks])}  by week"
        yield f"  left    {sparkline([sum(day.left for day in week) for week in weeks])}"
    if found.issues:
        yield ""
        yield _table(
            ("issue", "sent", "failed", "opened", "clicked", "unsubscribed", "complaints", "opens, clicks"),
            [
                (
                    one.slug,
                    f"{one.sent:,}",
                    _percent(one.bounce_rate),
                    _percent(one.open_rate),
                    _percent(one.click_rate),
                    f"{one.unsubscribed:,}",
                    f"{one.complaints:,}",
                    f"{one.opens:,}, {one.clicks:,}",
                )
                for one in found.issues
            ],
        )
        yield "opened, clicked: of the recipients who agreed to tracking"
        yield "opens, clicks: by everyone, machines left out"
    if found.cohorts:
        yield ""
        yield _cohort_table(found)
    yield from ("", *_health_lines(found), f"best hour: {found.best_hour.verdict}")


def _cohort_table(found: Overview) -> Table:
    months = max(len(cohort.retained) for cohort in found.cohorts)
    shown = range(min(months, 13))
    return _table(
        ("joined in", "people", *(f"+{month}" for month in shown)),
        [
            (
                cohort.month,
                f"{cohort.joined:,}",
                *(f"{100 * people / cohort.joined:.0f}%" for people in cohort.retained[: len(shown)]),
            )
            for cohort in found.cohorts
        ],
    )


def _health_lines(found: Overview) -> Iterator[str]:
    health = found.health
    suppressed = ", ".join(f"{number:,} {reason}" for reason, number in health.suppressed.items()) or "none"
    yield (
        f"the last four issues: {_percent(health.bounce_rate)} bounced, "
        f"{_percent(health.complaint_rate)} complained, {_percent(health.unsubscribe_rate)} unsubscribed"
    )
    yield f"suppressed addresses: {suppressed}"
    yield (
        f"of the active subscribers, {health.tracked:,} agreed to tracking, {health.paused:,} paused, "
        f"{health.soft_bouncing:,} have soft bounces"
    )


def _issue_lines(found: IssueStatistics, *, chart: bool) -> Iterator[str | Table]:
    one = found.figures
    yield blanked(f"{one.slug}: {one.title}")
    yield f"sent {one.sent:,} of {one.audience:,}, failed {one.failed:,}, still open {one.open:,}"
    yield (
        f"opens {one.opens:,} by people, {one.machine_opens:,} by machines; "
        f"clicks {one.clicks:,} by people, {one.machine_clicks:,} by machines"
    )
    yield (
        f"of the {one.tracked:,} recipients who agreed to tracking, {one.openers:,} opened it "
        f"({_percent(one.open_rate)}) and {one.clickers:,} clicked ({_percent(one.click_rate)})"
    )
    ways = ", ".join(f"{number:,} by {way}" for way, number in found.departures.items())
    yield f"unsubscribed {one.unsubscribed:,}{f' ({ways})' if ways else ''}, complaints {one.complaints:,}"
    if chart and found.hours:
        # Most of what happens, happens in the first two days.
        hours = statistics.first_hours(found.hours, 48)
        for name, words in _CURVES.items():
            yield f"  {words:<18}  {sparkline([getattr(hour, name) for hour in hours])}"
        yield f"  hours from {hours[0].at:%Y-%m-%d %H:%M} UTC"
    if found.links:
        yield ""
        yield _table(
            ("link", "clicks", "by machines", "people"),
            [
                (blanked(link.address), f"{link.clicks:,}", f"{link.machine_clicks:,}", f"{link.clickers:,}")
                for link in found.links
            ],
        )
    yield ""
    yield _group_table("provider", found.providers)
    if found.segments:
        yield _group_table("segment", found.segments)
    if any(delay.openers or delay.clickers for delay in found.delays):
        yield "time to the first open"
        yield from bars((_until(delay.at_most), delay.openers, "") for delay in found.delays)
    if found.failures:
        yield "failed"
        yield from bars((name or "unknown", number, "") for name, number in found.failures.items())


def _group_table(name: str, groups: Sequence[GroupFigures]) -> Table:
    return _table(
        (name, "recipients", "failed", "tracked", "opened", "clicked"),
        [
            (
                group.name or "others",
                f"{group.recipients:,}",
                f"{group.failed:,}",
                f"{group.tracked:,}",
                f"{group.openers:,}",
                f"{group.clickers:,}",
            )
            for group in groups
        ],
    )


def _until(limit: Any) -> str:
    if limit is None:
        return "later"
    minutes = int(limit.total_seconds()) // 60
    for unit, size in (("day", 1440), ("hour", 60)):
        if minutes >= size:
            number = minutes // size
            return f"within {number} {unit}{'s' if number > 1 else ''}"
    return f"within {minutes} minutes"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}" if share < 0.01 else f"{share:.1%}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
