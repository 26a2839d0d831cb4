"""`mailer ab`: show the results of an A/B test, and choose an arm."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailer.cli.app import App, Group, json_option, pass_app
from mailer.database.tables import IssueState
from mailer.delivery import arms, canary, issues
from mailer.delivery.difference import NAMES
from mailer.errors import RefusedError
from mailer.review import directory


@click.group(cls=Group)
def ab() -> None:
    """Show the A/B test of an issue, and choose an arm yourself."""


@ab.command("show")
@click.argument("issue")
@json_option
@pass_app
def show_command(app: App, issue: str, as_json: bool) -> None:
    """Show the clicks of each arm so far, and which arm won.

    Only readers who have agreed to tracking count, and only what people did, not machines.
    """
    with app.database.reading() as connection:
        known = directory.queued(connection, app.settings, issue)
        test = arms.find(connection, known.id)
        if test is None:
            raise RefusedError(f"{known.slug} has no A/B test")
        found, judged = arms.results(connection, known.id), arms.judged(connection, test)
    if as_json:
        app.emit(
            {
                "issue": known.slug,
                "decided": test.winner is not None,
                "winner": None if test.winner is None else NAMES[test.winner],
                "said": test.said or judged.said,
                "until": known.canary_until and known.canary_until.isoformat(),
                "arms": [
                    {
                        "name": arm.name,
                        "subject": arm.subject,
                        "members": arm.members,
                        "sent": arm.sent,
                        "readers": arm.count.readers,
                        "clicked" if test.kind == "click" else "opened": arm.count.clicked,
                    }
                    for arm in found
                ],
            }
        )
        return
    for arm in found:
        app.out(f"{arm.name}  {arm.sent:,} of {arm.members:,} sent  {arm.subject}")
    if test.winner is not None:
        app.out(f"decided: {NAMES[test.winner]} goes to everyone else ({test.said})")
    else:
        app.out(f"so far: {judged.said}")


@ab.command("choose")
@click.argument("issue")
@click.argument("arm")
@pass_app
def choose_command(app: App, issue: str, arm: str) -> None:
    """Send an arm to everyone else: A, B, C or D.

    You can choose before the test is over.
    """
    with app.database.transaction() as connection:
        known = directory.queued(connection, app.settings, issue)
        canary.choose(connection, known.id, arm, at=datetime.now(UTC))
        paused = issues.get(connection, known.id).state is IssueState.PAUSED
    app.out(f"{known.slug}: {arm.upper()} goes to everyone else")
    app.say(f"next: mailer {'resume' if paused else 'send'} {known.slug}")
