"""`mailer send`: send an issue to its audience."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import assert_never

import click
from sqlalchemy import Connection

from mailer.audience.vocabulary import empty_audience
from mailer.bounces.refusals import learn_by
from mailer.cli import books as shown
from mailer.cli import canary, newcomers
from mailer.cli.app import (
    App,
    Command,
    dry_run_option,
    finish,
    json_option,
    log_options,
    pass_app,
    segment_option,
    yes_option,
)
from mailer.database.tables import IssueState
from mailer.delivery import arms, dispatch, editions, enqueueing, requirements
from mailer.delivery.books import Books
from mailer.delivery.canary import lead
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.workers import dispatch_to_workers
from mailer.errors import ExitCode, RefusedError, SourceError
from mailer.printable import counted
from mailer.rendering.edition import Edition
from mailer.review import planning
from mailer.review.planning import Plan


@click.command(cls=Command)
@click.argument("issue")
@segment_option
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Send with N processes, which share all limits.",
)
@click.option(
    "--canary",
    "canary_share",
    type=canary.ShareType(),
    metavar="SHARE",
    help="Send to your seeds and this share of the audience first, e.g. 1%, then to everyone if all is well.",
)
@click.option(
    "--hold",
    is_flag=True,
    help="Decide an A/B test yourself, with `mailer ab choose`, instead of by clicks.",
)
@click.option(
    "--new-only",
    is_flag=True,
    help="Send an issue that was sent before to the subscribers who have joined its audience since.",
)
@click.option(
    "--no-lint",
    is_flag=True,
    help="Queue the issue even if `mailer lint` finds errors or some readers lack a field.",
)
@dry_run_option
@yes_option
@json_option
@log_options
@pass_app
def send(
    app: App,
    issue: str,
    segment: str,
    workers: int,
    canary_share: float | None,
    hold: bool,
    new_only: bool,
    no_lint: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send ISSUE to its audience, or resume sending. Nobody gets it twice.

    ISSUE is a file, its name without .md, or the number its name begins with. The first run
    freezes the content and the audience; later runs send the rest. Ctrl-C stops a run cleanly;
    press it again to end without waiting for replies.

    With --canary, part of the audience gets the issue first. After the waiting time set in [canary],
    sending continues, or stops with the reason. A run that was killed resumes where it stopped.

    An issue with several subjects or arms in its front matter begins with an A/B test: part of the audience
    gets it, each reader one arm, and everyone else gets the arm that won.

    If a `mailer worker` is running on PostgreSQL, the workers send the issue and this command shows their
    progress. Ctrl-C then ends only the command.

    Exit codes: 0 all sent; 3 lint found errors, nothing was queued; 4 some deliveries are failed,
    deferred or uncertain; 5 refused by a safety check; 6 relay or configuration; 7 another run is
    sending; 130 interrupted.
    """
    settings = app.settings
    path = editions.find_source(settings, issue)
    edition = _edition(app, path)
    requirements.check_ready(settings)
    plan = planning.plan(settings, app.database, edition, segment)
    if new_only:
        segment = segment or (plan.known.segment if plan.known else "")
        if not newcomers.queue(app, plan, segment, no_lint=no_lint, dry_run=dry_run, yes=yes):
            return
    elif plan.known is not None and plan.known.state is IssueState.FINISHED and canary_share is None:
        _tell_changed(app, path, plan.known, edition)
        finish(newcomers.tell_finished(app, plan.known, as_json=as_json))
        return
    if dry_run:
        _tell_plan(app, plan, as_json)
        return
    _check_options(plan, edition, canary_share, hold=hold)
    if plan.known is None:
        _check(app, plan, path, edition, segment, no_lint=no_lint)
        _confirm(app, plan, yes=yes)
    queued = _queue(app, path, edition, segment, canary_share, hold=hold)
    ended = _send(app, queued, workers, show_progress=not (as_json or app.quiet))
    _tell(app, queued, ended, as_json)
    finish(exit_code(ended))


def _confirm(app: App, plan: Plan, *, yes: bool) -> None:
    """Ask for confirmation, and wait as long as sending can be undone."""
    question = f"Send '{plan.subject}' to {counted(plan.audience, 'subscriber')} through {_relays(app)}?"
    app.confirm(question, yes=yes, what="sending")
    _wait_for_undo(app, app.settings.delivery.undo)


def _check_options(plan: Plan, edition: Edition, canary_share: float | None, *, hold: bool) -> None:
    """Raise `RefusedError` if an option does not fit the issue."""
    if hold and not edition.arms:
        raise RefusedError(
            f"{plan.slug} has no A/B test to hold",
            remedy='write subject: ["one", "another"] in its front matter',
        )
    if canary_share is not None and plan.known is not None and plan.known.canary is None:
        raise RefusedError(
            f"{plan.slug} was queued without a canary; it goes to everyone",
            remedy=f"resume it with: mailer send {plan.slug}",
        )


def _send(app: App, queued: QueuedIssue, workers: int, *, show_progress: bool) -> Ended:
    """Send a queued issue through all steps of its canary, here or by the workers that are running."""

    def run() -> Ended:
        with shown.bar(wanted=show_progress) as bar:
            handed_over = None if app.database.is_sqlite else _watch_workers(app, queued, bar.show)
            return handed_over or _run(app, queued, workers, bar.show)

    return lead(app.database, queued, app.settings.canary, canary.steps(app, run)) or run()


def _queue(
    app: App, path: Path, edition: Edition, segment: str, canary_share: float | None, *, hold: bool
) -> QueuedIssue:
    offer = _offer_turns(app)

    def also(connection: Connection, issue: QueuedIssue) -> None:
        if hold:
            arms.hold(connection, issue.id)
        offer(connection, issue)

    queued = enqueueing.enqueue(
        app.settings,
        app.database,
        edition,
        path,
        segment,
        at=datetime.now(UTC),
        canary_share=canary_share,
        also=also,
    )
    _tell_changed(app, path, queued, edition)
    return queued


def _tell_changed(app: App, path: Path, queued: QueuedIssue, edition: Edition) -> None:
    with app.database.reading() as connection:
        frozen = {queued.edition_digest, *arms.digests(connection, queued.id)}
    if edition.digest not in frozen:
        app.say(
            f"{path} or its templates changed after the issue was queued. The version frozen then is sent."
            f" To send the changes to everyone who doesn't have it yet: mailer amend {queued.slug}"
        )


def _wait_for_undo(app: App, wait: timedelta) -> None:
    """Wait before the issue is queued; Ctrl-C ends the command."""
    if not wait:
        return
    begin = (datetime.now(UTC) + wait).astimezone()
    try:
        app.say(f"sending begins at {begin:%H:%M:%S}; press Ctrl-C before then to undo it")
        time.sleep(wait.total_seconds())
    except KeyboardInterrupt:
        app.say("undone: nothing was queued")
        raise


def _edition(app: App, path: Path) -> Edition:
    """Build an issue; a queued issue continues even if its source or templates no longer build."""
    known = enqueueing.frozen(app.database, path.stem)
    try:
        return editions.build(app.settings, path, links=known.links if known else ())
    except SourceError as error:
        if known is None:
            raise
        app.say(f"{error.message}; the version frozen when it was queued is sent.")
        return known


def _check(app: App, plan: Plan, path: Path, edition: Edition, segment: str, *, no_lint: bool) -> None:
    """Raise an error if nobody would get the issue, lint finds errors, or some readers lack a field."""
    if not plan.audience:
        with app.database.reading() as connection:
            raise empty_audience(connection, segment)
    if not no_lint:
        # Imported here, because a queued issue is not checked again.
        from mailer.cli.lint import refuse_errors
        from mailer.review import filling

        refuse_errors(app, path, edition)
        condition = enqueueing.audience_condition(app.settings, segment)
        filling.compose_some(app.settings, app.database, edition, condition)


def worker_command(app: App, slug: str) -> list[str]:
    """Return the command that starts a worker, up to its number."""
    folder, config = app.config_path.parent.resolve(), app.config_path.resolve()
    addresses = ["--log-addresses"] if app.log_addresses else []
    return [
        sys.executable, "-m", "mailer", "share", slug, "-C", str(folder), "--config", str(config),
        "--log-format", app.log_format, *addresses, "--share",
    ]  # fmt: skip


def _run(app: App, queued: QueuedIssue, workers: int, progress: Callable[[Books], None]) -> Ended:
    """Send in this process or in several worker processes."""
    if workers == 1:
        return dispatch.dispatch(
            app.settings,
            app.database,
            queued,
            app.signer,
            learn=learn_by(app.settings.bounces),
            progress=progress,
            say=app.say,
        )
    return dispatch_to_workers(
        worker_command(app, queued.slug),
        app.database,
        queued,
        workers=workers,
        settings=app.settings.delivery,
        progress=progress,
        say=app.say,
    )


def _offer_turns(app: App) -> Callable[[Connection, QueuedIssue], object]:
    """Return the step that offers the issue to the workers in the transaction that queues it."""
    if app.database.is_sqlite:
        return lambda connection, issue: None
    from mailer.cluster import members

    def offer(connection: Connection, issue: QueuedIssue) -> None:
        if members.living(connection):
            # Imported here, because Procrastinate takes long to import.
            from mailer.cluster import turns

            turns.offer_to_all(connection, issue, app.settings.delivery)

    return offer


def _watch_workers(app: App, queued: QueuedIssue, progress: Callable[[Books], None]) -> Ended | None:
    """Show how the workers send an issue until they are done; return None if none is running."""
    from mailer.cluster.handover import watch

    return watch(app.database, queued, app.settings.delivery, say=app.say, progress=progress)


def exit_code(ended: Ended) -> ExitCode:
    """Return the exit code for the end of a run."""
    match ended.ending:
        case Ending.STOPPED:
            return ExitCode.INTERRUPTED
        case Ending.UNREACHABLE:
            return ended.error.exit_code if ended.error else ExitCode.CONFIGURATION
        case Ending.PAUSED:
            return ExitCode.CONFIGURATION if ended.reason else ExitCode.PARTIAL
        case Ending.FINISHED | Ending.WAITING | Ending.CANCELLED:
            books = ended.books
            return ExitCode.PARTIAL if books.open or books.failed else ExitCode.DONE
        case _:
            assert_never(ended.ending)


def _relays(app: App) -> str:
    names = ", ".join(f"{name} ({relay.host})" for name, relay in app.settings.relays.items())
    return names or "the outbox on this machine"


def _tell_plan(app: App, plan: Plan, as_json: bool) -> None:
    if as_json:
        app.emit({"issue": plan.slug, "subject": plan.subject, "audience": plan.audience, "dry_run": True})
        return
    app.out(f"'{plan.subject}' would go to {counted(plan.audience, 'subscriber')} through {_relays(app)}.")
    if plan.known is not None:
        app.out(f"It is already in the queue ({plan.known.state.value}); see mailer status {plan.slug}")


def _tell(app: App, issue: QueuedIssue, ended: Ended, as_json: bool) -> None:
    if as_json:
        app.emit(
            {
                "issue": issue.slug,
                "ending": ended.ending.value,
                "reason": ended.reason,
                "books": ended.books.as_dict(),
            }
        )
        return
    app.out(f"{issue.slug}: {ended.ending.value}")
    for line in shown.lines(ended.books):
        app.out(line)
    if ended.reason:
        app.say(f"why: {ended.reason}")
    if hint := _next_step(app, issue, ended):
        app.say(f"next: {hint}")


def _next_step(app: App, issue: QueuedIssue, ended: Ended) -> str:
    if ended.error is not None and ended.error.remedy:
        return ended.error.remedy
    match ended.ending:
        case Ending.PAUSED:
            return f"fix it, then: mailer resume {issue.slug} && mailer send {issue.slug}"
        case Ending.WAITING | Ending.STOPPED | Ending.UNREACHABLE:
            return f"mailer send {issue.slug} sends the rest"
        case Ending.FINISHED:
            return "" if app.settings.relays else "mailer outbox shows the messages in a browser"
        case Ending.CANCELLED:
            return ""
        case _:
            assert_never(ended.ending)
