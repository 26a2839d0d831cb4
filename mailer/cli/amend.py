"""`mailer amend`: continue a partly sent issue with a corrected edition."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailer.cli.app import App, Command, json_option, pass_app, yes_option
from mailer.cli.lint import refuse_errors
from mailer.database.tables import IssueState
from mailer.delivery import amending, arms, editions, issues
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import exclusive
from mailer.review import directory, filling
from mailer.review.planning import still_open


@click.command(cls=Command)
@click.argument("issue")
@click.option(
    "--no-lint",
    is_flag=True,
    help="Amend the issue even if `mailer lint` finds errors or some readers lack a field.",
)
@yes_option
@json_option
@pass_app
def amend(app: App, issue: str, no_lint: bool, yes: bool, as_json: bool) -> None:
    """Correct ISSUE for everyone who doesn't have it yet.

    Edit the file, then run this: it freezes the corrected file as the next edition, and
    `mailer send ISSUE` continues with it. Both editions are kept; `mailer why ADDRESS` shows which
    one a reader got. The archive shows the newest.

    Stop a run first, with Ctrl-C or `mailer pause ISSUE`. If nothing was sent yet, use
    `mailer withdraw` instead.

    Exit codes: 0 amended; 3 lint found errors; 5 refused, e.g. because everyone has it; 7 a run is
    sending.
    """
    path = editions.find_source(app.settings, issue)
    known = _queued(app, path.stem)
    with exclusive(app.database) as connection:
        books = amending.check(connection, known.id, at=datetime.now(UTC))
        left = amending.left(connection, known.id)
        frozen, test = issues.edition(connection, known.edition_digest), arms.find(connection, known.id)
    corrected = editions.build(app.settings, path, links=frozen.links)
    if test is not None and corrected.arms:
        corrected = corrected.arm(test.winner or 0)
    if not no_lint:
        refuse_errors(app, path, corrected)
        filling.compose_some(
            app.settings, app.database, corrected, still_open(known.id), undone="nothing was amended"
        )
    app.confirm(
        f"Send '{corrected.subject}' as corrected to the {left:,} who don't have it yet?"
        f" {books.sent:,} have the edition before.",
        yes=yes,
        what="amending",
    )
    with exclusive(app.database) as connection:
        number = amending.amend(connection, known.id, corrected, source_path=str(path), at=datetime.now(UTC))
    if as_json:
        app.emit({"issue": known.slug, "edition": number, "sent": books.sent, "left": left})
        return
    app.out(f"{known.slug}: edition {number} goes to the {left:,} who don't have it yet")
    if books.uncertain:
        app.say(f"{books.uncertain:,} of them are uncertain, and may already have the previous edition")
    resume = f"mailer resume {known.slug} && " if known.state is IssueState.PAUSED else ""
    app.say(f"next: {resume}mailer send {known.slug}")


def _queued(app: App, slug: str) -> QueuedIssue:
    with app.database.reading() as connection:
        return directory.queued(connection, app.settings, slug)
