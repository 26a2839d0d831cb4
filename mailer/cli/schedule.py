"""`mailer schedule`: send an issue at a set time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from mailer.cli.app import App, Group, json_option, pass_app, yes_option
from mailer.delivery import editions, enqueueing, local_time, requirements
from mailer.delivery import schedule as schedules
from mailer.delivery.schedule import Scheduled
from mailer.printable import counted
from mailer.review import planning


class _IssueOrCommand(Group):
    """`mailer schedule ISSUE …` means `mailer schedule add ISSUE …`."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, name) or super().get_command(context, "add")

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if arguments and arguments[0] not in self.commands:
            arguments = ["add", *arguments]
        return super().resolve_command(context, arguments)


@click.group(cls=_IssueOrCommand)
def schedule() -> None:
    """Send an issue at a set time: mailer schedule ISSUE --at 2026-12-04T08:00."""


def _zone(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        if value:
            ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(
            f"there is no time zone '{value}'; write it like Europe/Bucharest"
        ) from error
    return value


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"'{value}' is not a time; write it like 2026-12-04T08:00") from error


@schedule.command("add")
@click.argument("issue")
@click.option(
    "--at",
    "local",
    callback=_time,
    metavar="TIME",
    help="The time, e.g. 2026-12-04T08:00; send_at in the front matter by default.",
)
@click.option(
    "--zone",
    default="",
    callback=_zone,
    metavar="ZONE",
    help="The time zone of --at, e.g. Europe/Bucharest; this machine's by default.",
)
@click.option(
    "--local-time",
    "by_local_time",
    is_flag=True,
    help="Send it at that time on each subscriber's own clock, given by their attribute 'timezone'."
    " Everyone else gets it by the clock of --zone.",
)
@click.option(
    "--to", "segment", default="", metavar="SEGMENT", help="Only these subscribers, e.g. 'tag:vip'."
)
@click.option("--no-lint", is_flag=True, help="Schedule the issue even if `mailer lint` finds errors.")
@yes_option
@pass_app
def add_command(
    app: App,
    issue: str,
    local: datetime | None,
    zone: str,
    by_local_time: bool,
    segment: str,
    no_lint: bool,
    yes: bool,
) -> None:
    """Send ISSUE at a time; `mailer worker` must run then.

    The content is frozen now; the audience is chosen when the time comes. Scheduling an issue again
    replaces its time and its content. If the clocks skip the time, the issue is sent an hour later; if the
    time occurs twice, the first one counts. An issue that is more than an hour late is not sent.

    With --local-time, the audience is chosen when that time comes in the first time zone on earth, up to 26
    hours before it comes in the last. Nobody gets the issue twice, and someone who unsubscribes before
    their turn does not get it.

    Exit codes: 0 scheduled; 3 lint found errors; 5 refused by a safety check.
    """
    settings = app.settings
    path = editions.find_source(settings, issue)
    if local is None:
        local, zone = _written(path, zone)
    edition = editions.build(settings, path)
    requirements.check_ready(settings)
    plan = planning.plan(settings, app.database, edition, segment)
    if not no_lint:
        from mailer.cli.lint import refuse_errors

        refuse_errors(app, path, edition)
    due_at, at = schedules.instant(local, zone), datetime.now(UTC)
    wall = local if by_local_time else None
    shown = Scheduled(edition.slug, segment, due_at, zone, missed=False, wall=wall).shown
    app.confirm(
        f"Send '{plan.subject}' to {counted(plan.audience, 'subscriber')} (as of now) at {shown}?",
        yes=yes,
        what="scheduling",
    )
    with app.database.transaction() as connection:
        if wall is None:
            schedules.add(
                connection, edition, source_path=str(path), segment=segment, due_at=due_at, zone=zone, at=at
            )
        else:
            condition = enqueueing.audience_condition(settings, segment)
            local_time.add(
                connection, edition, source_path=str(path), segment=segment, wall=wall, zone=zone, at=at,
                condition=condition,
            )  # fmt: skip
    app.out(f"{edition.slug}: scheduled for {shown}")


def _written(path: Path, zone: str) -> tuple[datetime, str]:
    """Return the time in an issue's front matter and its zone; `zone` is that of the command line."""
    from mailer.rendering.source.issue import read_issue

    source = read_issue(path)
    if source.send_at is None:
        raise click.UsageError("give the time with --at, or write send_at in the front matter of the issue")
    return source.send_at, zone or source.send_zone


@schedule.command("list")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the scheduled issues, the next one first."""
    with app.database.reading() as connection:
        found = schedules.scheduled(connection)
    if as_json:
        app.emit(
            {
                "scheduled": [
                    {
                        "issue": one.slug,
                        "at": one.due_at.isoformat(),
                        "zone": one.zone,
                        "local_time": one.wall.isoformat() if one.wall else None,
                        "segment": one.segment,
                        "missed": one.missed,
                    }
                    for one in found
                ]
            }
        )
        return
    for one in found:
        rest = " --new-only" if one.began_at else ""
        missed = f"  missed; to send it: mailer send {one.slug}{rest}" if one.missed else ""
        app.out(f"{one.shown}  {one.slug}{missed}")
    if not found:
        app.say("nothing is scheduled")


@schedule.command("cancel")
@click.argument("issue")
@pass_app
def cancel_command(app: App, issue: str) -> None:
    """Remove the schedule of ISSUE, so that it is not sent.

    If it was scheduled with --local-time, this stops it in the time zones whose turn has not come yet.
    """
    with app.database.transaction() as connection:
        slug = schedules.cancel(connection, issue)
    app.out(f"{slug}: no longer scheduled")
