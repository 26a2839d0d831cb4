"""`mailer send` of an issue that was sent before: offer it to the subscribers who have joined since."""

from __future__ import annotations

from datetime import UTC, datetime

from mailer.cli import books as shown
from mailer.cli.app import App
from mailer.delivery import enqueueing, issues
from mailer.delivery.books import books_of
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.newcomers import newcomers, queue_newcomers
from mailer.errors import ExitCode, RefusedError
from mailer.review import filling
from mailer.review.planning import Plan


def tell_finished(app: App, issue: QueuedIssue, *, as_json: bool) -> ExitCode:
    """Say that nothing is left to send, and how many subscribers have joined the audience since."""
    since = _count(app, issue, issue.segment)
    with app.database.reading() as connection:
        books = books_of(connection, issue.id)
    if as_json:
        app.emit(
            {
                "issue": issue.slug,
                "ending": "finished",
                "reason": "",
                "books": books.as_dict(),
                "subscribed_since": since,
            }
        )
    else:
        on = f"{issue.finished_at.astimezone():%Y-%m-%d %H:%M}" if issue.finished_at else ""
        app.out(f"{issue.slug}: finished on {on}, nothing to send; {_subscribed(since)}")
        for line in shown.lines(books):
            app.out(line)
        if since:
            app.say(f"next: mailer send {issue.slug} --new-only sends it to them")
    return ExitCode.PARTIAL if books.failed else ExitCode.DONE


def queue(app: App, plan: Plan, segment: str, *, no_lint: bool, dry_run: bool, yes: bool) -> bool:
    """Queue an issue for subscribers who have joined its audience since; return whether to send it now."""
    issue = plan.known
    if issue is None:
        raise RefusedError(
            f"{plan.slug} was never sent", remedy=f"send it to everyone with: mailer send {plan.slug}"
        )
    number = _count(app, issue, segment)
    if dry_run or not number:
        app.out(f"{issue.slug}: {_subscribed(number)}; nothing was queued")
        return False
    condition = enqueueing.audience_condition(app.settings, segment)
    frozen = enqueueing.frozen(app.database, issue.slug)
    if frozen is not None and not no_lint:
        filling.compose_some(app.settings, app.database, frozen, newcomers(issue.id, condition))
    people = "subscriber who has" if number == 1 else "subscribers who have"
    app.confirm(f"Send '{plan.subject}' to the {number:,} {people} joined since?", yes=yes, what="sending")
    with app.database.transaction() as connection:
        queue_newcomers(connection, issue.id, condition, at=datetime.now(UTC))
    return True


def _subscribed(number: int) -> str:
    return f"{number:,} subscribed since" if number else "nobody has subscribed since"


def _count(app: App, issue: QueuedIssue, segment: str) -> int:
    if issue.resend_of is not None:
        return 0
    condition = newcomers(issue.id, enqueueing.audience_condition(app.settings, segment))
    with app.database.reading() as connection:
        return issues.count_audience(connection, condition, at=datetime.now(UTC))
