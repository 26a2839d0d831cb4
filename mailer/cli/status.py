"""`mailer status`, `pause`, `resume`, `cancel`, `retry`: the books, and the operator's hand on them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click
from sqlalchemy.orm import Session

from mailer.cli import books as shown
from mailer.cli.app import App, Command, json_option, pass_app, yes_option
from mailer.database.models import DeliveryState
from mailer.delivery import issues, queue
from mailer.delivery.issues import QueuedIssue
from mailer.errors import SourceError


@click.command(cls=Command)
@click.argument("issue", required=False)
@click.option("-w", "--watch", is_flag=True, help="Print again every two seconds, until Ctrl-C.")
@json_option
@pass_app
def status(app: App, issue: str | None, watch: bool, as_json: bool) -> None:
    """Print the books of ISSUE; of every issue without one."""
    while True:
        _print(app, issue, as_json)
        if not watch:
            return
        time.sleep(2)


@click.command(cls=Command)
@click.argument("issue")
@pass_app
def pause(app: App, issue: str) -> None:
    """Stop sending ISSUE after what is in flight, until it is resumed."""
    with app.database.transaction() as session:
        changed = issues.pause(session, _known(session, issue).id, "paused by the operator")
    app.out(f"{issue}: {'paused' if changed else 'was not being sent; nothing changed'}")


@click.command(cls=Command)
@click.argument("issue")
@pass_app
def resume(app: App, issue: str) -> None:
    """Let a paused ISSUE be sent on; `mailer send ISSUE` then goes on."""
    with app.database.transaction() as session:
        changed = issues.resume(session, _known(session, issue).id)
    app.out(f"{issue}: {'resumed' if changed else 'was not paused; nothing changed'}")


@click.command(cls=Command)
@click.argument("issue")
@yes_option
@pass_app
def cancel(app: App, issue: str, yes: bool) -> None:
    """Never send what is left of ISSUE. What was sent stays sent."""
    app.confirm(f"Cancel what is left of {issue}? This cannot be undone.", yes=yes, what="cancelling")
    with app.database.transaction() as session:
        skipped = issues.cancel(session, _known(session, issue).id, at=datetime.now(UTC))
    app.out(f"{issue}: cancelled; {skipped:,} deliveries will not be sent")


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
    """Queue deliveries of ISSUE again; `mailer send ISSUE` then sends them."""
    with app.database.transaction() as session:
        queued = issues.retry(session, _known(session, issue).id, DeliveryState(only), at=datetime.now(UTC))
    app.out(f"{issue}: {queued:,} deliveries are queued again")


def _known(session: Session, name: str) -> QueuedIssue:
    every = issues.issues(session)
    for known in every:
        if name == known.slug or (
            name.isdecimal() and known.slug.split("-")[0].lstrip("0") == name.lstrip("0")
        ):
            return known
    there = ", ".join(known.slug for known in every[:5]) or "none yet"
    raise SourceError(f"no issue '{name}' was ever queued", remedy=f"known: {there}")


def _print(app: App, name: str | None, as_json: bool) -> None:
    with app.database.reading() as session:
        wanted = [_known(session, name)] if name else issues.issues(session)
        told = [
            (issue, queue.books(session, issue.id), queue.next_due(session, issue.id, resend_uncertain=True))
            for issue in wanted
        ]
    if as_json:
        objects = [
            {
                "issue": issue.slug,
                "title": issue.title,
                "state": issue.state.value,
                "reason": issue.reason,
                "queued_at": issue.created_at.isoformat(),
                "finished_at": issue.finished_at.isoformat() if issue.finished_at else None,
                "next_try_at": due.isoformat() if due else None,
                "books": books.as_dict(),
            }
            for issue, books, due in told
        ]
        app.emit(objects[0] if name else {"issues": objects})
        return
    if not told:
        app.out("No issue was queued yet.")
    for issue, books, due in told:
        app.out(f"{issue.slug}: {issue.state.value}" + (f" ({issue.reason})" if issue.reason else ""))
        for line in shown.lines(books):
            app.out(line)
        if due is not None:
            app.out(f"  next try at {due.astimezone():%Y-%m-%d %H:%M:%S}")
