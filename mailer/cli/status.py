"""`mailer status`, `pause`, `resume`, `cancel`, `withdraw` and `retry`: show and control sending."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import assert_never

import click

from mailer.cli import books as shown
from mailer.cli import waves
from mailer.cli.app import App, Command, json_option, pass_app, yes_option
from mailer.database.tables import DeliveryState, IssueState
from mailer.delivery import canary, control, issues, letters, runs
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.listing import listing
from mailer.delivery.lock import exclusive
from mailer.delivery.relays import warming_up
from mailer.printable import counted
from mailer.review import directory, table
from mailer.review.directory import DRAFT, Entry
from mailer.review.status import IssueStatus, status_of
from mailer.review.waves import waves_of


@click.command(cls=Command)
@click.argument("issue", required=False)
@click.option(
    "-w", "--watch", is_flag=True, help="Keep a table by mailbox provider up to date, until you press Ctrl-C."
)
@click.option(
    "--list",
    "listed",
    type=click.Choice([state.value for state in DeliveryState]),
    help="List the deliveries of ISSUE in this state, one per line.",
)
@json_option
@pass_app
def status(app: App, issue: str | None, watch: bool, listed: str | None, as_json: bool) -> None:
    """Show all issues, including drafts, in one table; with ISSUE, its deliveries in detail.

    With --list and --json, each line is one delivery as a JSON object. With --watch and --json, or when
    the output is not a terminal, the status is printed again every two seconds.
    """
    if listed is not None:
        if issue is None or watch:
            raise click.UsageError("--list needs an ISSUE and can't be combined with --watch")
        _list(app, issue, DeliveryState(listed), as_json)
        return
    if watch and not as_json and sys.stdout.isatty():
        # Imported on use: few invocations watch.
        from mailer.cli.watching import watch as keep_watching

        keep_watching(app.database, app.settings, issue)
    while True:
        _print(app, issue, as_json)
        if not watch:
            return
        time.sleep(2)


@click.command(cls=Command)
@click.argument("issue")
@pass_app
def pause(app: App, issue: str) -> None:
    """Pause ISSUE until you resume it. Messages that are being sent are finished first."""
    with app.database.transaction() as connection:
        known = directory.queued(connection, app.settings, issue)
        changed = control.pause(connection, known.id, "paused by the operator")
        running = [run for run in runs.sending(connection) if run.issue_id == known.id]
    if not changed:
        app.out(f"{known.slug}: {_unchanged(known, 'pause')}")
        return
    app.out(f"{known.slug}: paused; to continue: mailer resume {known.slug}")
    for run in running:
        app.out(f"  process {run.pid} on {run.host} settles the messages under way, then stops")


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--accept-refusals",
    is_flag=True,
    help="Don't pause again when nearly all replies are the same refusal: the addresses really don't work.",
)
@pass_app
def resume(app: App, issue: str, accept_refusals: bool) -> None:
    """Allow a paused ISSUE to be sent; `mailer send ISSUE` then continues.

    A canary that was stopped or is still waiting counts as passed, so everyone else gets the issue too.
    """
    with app.database.transaction() as connection:
        known = directory.queued(connection, app.settings, issue)
        changed = canary.resume(connection, known.id)
        if accept_refusals:
            control.accept_refusals(connection, known.id, at=datetime.now(UTC))
    if changed:
        app.out(f"{known.slug}: resumed; to send the rest: mailer send {known.slug}")
    elif known.state is IssueState.SENDING:
        app.out(f"{known.slug}: was not paused; nothing changed")
    else:
        app.out(f"{known.slug}: {_unchanged(known, 'resume')}")


@click.command(cls=Command)
@click.argument("issue")
@yes_option
@pass_app
def cancel(app: App, issue: str, yes: bool) -> None:
    """Stop ISSUE permanently; unsent deliveries are skipped."""
    with app.database.reading() as connection:
        slug = directory.queued(connection, app.settings, issue).slug
    app.confirm(f"Cancel the rest of {slug}? This cannot be undone.", yes=yes, what="cancelling")
    with app.database.transaction() as connection:
        known = directory.queued(connection, app.settings, issue)
        skipped = control.cancel(connection, known.id, at=datetime.now(UTC))
        running = any(run.issue_id == known.id for run in runs.sending(connection))
    if known.state is IssueState.CANCELLED:
        app.out(f"{known.slug}: {_unchanged(known, 'cancel')}")
        return
    flying = "; messages under way are still sent" if running else ""
    app.out(f"{known.slug}: cancelled; {deliveries(skipped)} will not be sent{flying}")


@click.command(cls=Command)
@click.argument("issue")
@yes_option
@pass_app
def withdraw(app: App, issue: str, yes: bool) -> None:
    """Take ISSUE out of the queue, so that you can correct it and send it again.

    This works only while nothing has been sent. To correct an issue that is partly sent, use `mailer amend`;
    to stop it, `mailer cancel`.
    """
    with app.database.reading() as connection:
        slug = directory.queued(connection, app.settings, issue).slug
    app.confirm(f"Withdraw {slug}?", yes=yes, what="withdrawing")
    with exclusive(app.database) as connection:
        withdrawn = control.withdraw(connection, directory.queued(connection, app.settings, slug).id)
    number = counted(withdrawn, "delivery", "deliveries")
    app.out(f"{slug}: withdrawn with {number}; correct it, then: mailer send {slug}")


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--only",
    type=click.Choice(["failed", "deferred", "uncertain"]),
    required=True,
    help="Which deliveries to queue again.",
)
@pass_app
def retry(app: App, issue: str, only: str) -> None:
    """Queue deliveries of ISSUE again; `mailer send ISSUE` then sends them.

    A paused issue stays paused until `mailer resume ISSUE`.
    """
    with app.database.transaction() as connection:
        known = directory.queued(connection, app.settings, issue)
        queued = control.retry(connection, known.id, DeliveryState(only), at=datetime.now(UTC))
    if not queued:
        app.out(f"{known.slug}: no delivery is {only}; nothing changed")
        return
    verb = "resume" if known.state is IssueState.PAUSED else "send"
    reopened = "" if known.state is IssueState.SENDING else f"; the issue was {known.state.value}"
    app.out(f"{known.slug}: {deliveries(queued)} queued again{reopened}; next: mailer {verb} {known.slug}")


def deliveries(number: int) -> str:
    """Return a number of deliveries in words."""
    return f"{number:,} {'delivery' if number == 1 else 'deliveries'}"


def _unchanged(issue: QueuedIssue, verb: str) -> str:
    """Return why a command changed nothing."""
    match issue.state:
        case IssueState.PAUSED:
            return f"is already paused ({issue.reason})"
        case IssueState.FINISHED:
            return f"finished on {_local(issue.finished_at)}; there is nothing to {verb}"
        case IssueState.CANCELLED:
            return f"was cancelled before; there is nothing to {verb}"
        case IssueState.SENDING:
            return "nothing changed"
        case _:
            assert_never(issue.state)


def _print(app: App, name: str | None, as_json: bool) -> None:
    with app.database.reading() as connection:
        unqueued = directory.unqueued(connection, app.settings, name) if name else None
        if unqueued is not None:
            _tell_unqueued(app, unqueued, as_json)
            return
        wanted = [directory.queued(connection, app.settings, name)] if name else issues.issues(connection)
        statuses = [status_of(connection, issue) for issue in wanted]
        letter_books = letters.books(connection)
        rows = table.rows(connection, app.settings)
        left = waves_of(connection, app.settings, wanted[0].slug, at=datetime.now(UTC)) if name else []
    if as_json:
        objects = [one.as_dict() for one in statuses]
        drafts = [row.slug for row in rows if row.doing == "draft"]
        every = {"issues": objects, "drafts": drafts, "letters": letter_books.as_dict()}
        one_issue = {**objects[0], "waves": [wave.as_dict() for wave in left]} if name else {}
        app.emit(one_issue or every)
        return
    if name:
        _tell(app, statuses[0])
        for line in waves.lines(left):
            app.out(line)
        return
    if not statuses:
        app.out("No issue has been queued yet.")
    for line in table.lines(rows) if rows else ():
        app.out(line)
    for one in statuses:
        if not one.books.balanced:
            app.out(f"{one.issue.slug}: DOES NOT BALANCE; see mailer status {one.issue.slug}")
        for alert in one.alerts[:1]:
            app.out(f"{one.issue.slug}: alert {_local(alert.at)}: {alert.text}")
    if letter_books.audience:
        app.out("letters")
        for line in shown.lines(letter_books):
            app.out(line)


def _tell_unqueued(app: App, entry: Entry, as_json: bool) -> None:
    draft = entry.state == DRAFT
    file = directory.sources(app.settings).get(entry.slug)
    if as_json:
        due_at = None if draft else entry.at.isoformat()
        shown_file = None if file is None else str(file)
        app.emit(
            {
                "issue": entry.slug,
                "title": entry.title,
                "state": entry.state,
                "due_at": due_at,
                "file": shown_file,
            }
        )
        return
    app.out(f"{entry.slug}: {directory.described(entry)}; nothing has been queued")
    if file is not None:
        app.out(f"  file: {file}")
    if draft:
        app.out(f"  to check it: mailer lint {entry.slug}")
    else:
        app.out(f"  to cancel the schedule: mailer schedule cancel {entry.slug}")
    app.out(f"  to send it: mailer send {entry.slug}")


def _tell(app: App, status: IssueStatus) -> None:
    issue = status.issue
    app.out(f"{issue.slug}: {status.doing}" + (f" ({issue.reason})" if issue.reason else ""))
    if status.doing in ("queued", "interrupted"):
        app.out(f"  no process is sending it; to continue: mailer send {issue.slug}")
    if status.books.open and not status.running and status.left_because:
        app.out(f"  the last run ended early: {status.left_because}")
    for line in shown.lines(status.books):
        app.out(line)
    if len(status.editions) > 1:
        for edition in status.editions:
            app.out(f"  edition {edition.number} of {_local(edition.since)}: {edition.sent:,} sent")
    if status.canary is not None and issue.canary is not None:
        until = f" until {_local(issue.canary_until)}" if issue.canary_until else ""
        name = "canary" if status.test is None else "test"
        app.out(f"  {name} {issue.canary.value}{until}: {status.canary}")
    if status.test is not None:
        app.out(f"  A/B test: {status.test.said or f'not decided; see mailer ab show {issue.slug}'}")
    for alert in status.alerts:
        app.out(f"  alert {_local(alert.at)}: {alert.text}")
    if status.books.open:
        for warming in warming_up(app.settings, datetime.now(UTC).date()):
            app.out(f"  {warming}")
    if not status.waiting:
        return
    number = sum(group.number for group in status.waiting)
    app.out(
        f"  {number:,} wait for another attempt"
        + (f", the next at {_local(status.next_at)}" if status.next_at else "")
    )
    for group in status.waiting:
        last = f"until {_local(group.last_at)}, " if group.last_at else ""
        app.out(f"  {group.number:>10,}  {group.state.value}, {last}at most {group.attempts} attempts")
        app.out(f"  {'':>10}  {group.reason[:90]}")


def _list(app: App, name: str, state: DeliveryState, as_json: bool) -> None:
    with app.database.reading() as connection:
        for one in listing(connection, directory.queued(connection, app.settings, name).id, state):
            if as_json:
                app.emit(one.as_dict())
            else:
                address = "(erased)" if one.address is None else one.address
                tries = f"{one.attempts} {'try' if one.attempts == 1 else 'tries'}"
                app.out("  ".join(filter(None, (address, tries, _local(one.changed_at), one.answer[:200]))))


def _local(at: datetime | None) -> str:
    return "" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
