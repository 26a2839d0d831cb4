"""The canary of `mailer send --canary`: seeds, a part of the audience, a wait, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, assert_never

import click

from mailer.cli.app import App
from mailer.config import parse_share
from mailer.database.models import CanaryState, IssueState
from mailer.delivery import canary, issues, queue
from mailer.delivery.canary import Findings
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.sender import Ended, Ending
from mailer.errors import MailboxError, RefusedError
from mailer.review import linting, sample

_LOOK_SECONDS: Final = 10.0
"""How often a waiting canary is looked at."""


class ShareType(click.ParamType[float]):
    """A share of the audience, as `1%`."""

    name = "share"

    def convert(
        self, value: object, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Return the number from 0 to 1."""
        try:
            share = parse_share(value)
            number = float(share) if isinstance(share, (str, float, int)) else 0.0
        except ValueError as error:
            self.fail(str(error), parameter, context)
        if not 0 < number <= 1:
            self.fail(f"{value} is no part of an audience; write for example 1%", parameter, context)
        return number


def lead(app: App, issue: QueuedIssue, run: Callable[[], Ended]) -> Ended | None:
    """Bring a canary as far as it comes; return how the run ended if the others must not follow now.

    `run` sends what may be sent: the queue itself gives out members alone until the canary has passed.
    Each step is in the database before the next one begins, so that a killed run goes on where it was.
    Raises `RefusedError` when a limit is broken.
    """
    while True:
        with app.database.reading() as session:
            issue = issues.get(session, issue.id)
        match issue.canary:
            case None | CanaryState.PASSED:
                return None
            case CanaryState.SEEDING:
                _seed(app, issue)
            case CanaryState.SENDING:
                ended = run()
                if ended.ending is Ending.FINISHED:
                    _let_pass(app, issue)
                if ended.ending is not Ending.WAITING:
                    return ended
                _judge(app, issue)
                _advance(app, issue, CanaryState.WAITING, datetime.now(UTC) + app.settings.canary.wait)
            case CanaryState.WAITING:
                if (left := _wait(app, issue)) is not None:
                    return left
            case CanaryState.STOPPED:
                raise _refused(issue.slug, issue.reason)
            case _:
                assert_never(issue.canary)


def describe(found: Findings) -> str:
    """Return what is known of a canary, for people."""
    return (
        f"{found.tried:,} of {found.members:,} tried, {found.bounced:,} bounced,"
        f" {found.deferred:,} refused for now, {found.complained:,} complained"
    )


def _seed(app: App, issue: QueuedIssue) -> None:
    """Send the issue to the seeds that are not in the audience; a second time if killed in between."""
    seeds = app.settings.canary.seeds
    with app.database.reading() as session:
        outside = canary.strangers(session, issue.id, seeds)
        edition = issues.edition(session, issue.edition_digest)
    for seed in outside:
        sample.send_test(app.settings, edition, replace(linting.sample_reader(edition), email=seed))
    _advance(app, issue, CanaryState.SENDING)
    if outside:
        app.say(f"canary: sent to {', '.join(outside)}")


def _wait(app: App, issue: QueuedIssue) -> Ended | None:
    """Wait for reports and judge them; return how the run ended if the issue was stopped meanwhile."""
    assert issue.canary_until is not None
    app.say(f"canary: waiting for reports until {issue.canary_until.astimezone():%Y-%m-%d %H:%M:%S}")
    while True:
        _fetch(app)
        _judge(app, issue)
        with app.database.reading() as session:
            now, found = issues.get(session, issue.id), canary.findings(session, issue.id)
            books = queue.books(session, issue.id)
        if now.state is IssueState.PAUSED:
            return Ended(Ending.PAUSED, books, now.reason)
        if now.state is IssueState.CANCELLED:
            return Ended(Ending.CANCELLED, books)
        if now.canary is not CanaryState.WAITING:
            return None
        left_seconds = (issue.canary_until - datetime.now(UTC)).total_seconds()
        if left_seconds <= 0:
            _let_pass(app, issue)
            app.say(f"canary: passed ({describe(found)}); the others follow")
            return None
        time.sleep(min(_LOOK_SECONDS, left_seconds))


def _advance(app: App, issue: QueuedIssue, state: CanaryState, until: datetime | None = None) -> None:
    with app.database.transaction() as session:
        canary.advance(session, issue.id, state, until=until)


def _let_pass(app: App, issue: QueuedIssue) -> None:
    with app.database.transaction() as session:
        canary.let_pass(session, issue.id, at=datetime.now(UTC))


def _fetch(app: App) -> None:
    """Read the configured mailboxes, so that what came back counts."""
    # Only a canary reads mailboxes; a run without one starts sooner.
    from mailer.bounces.boxes.configured import boxes_of, rules_of
    from mailer.bounces.boxes.fetch import fetch

    for open_box in boxes_of(app.settings):
        try:
            with open_box() as box:
                fetch(
                    app.database,
                    app.signer,
                    box,
                    clock=lambda: datetime.now(UTC),
                    rules=rules_of(app.settings),
                )
        except MailboxError as error:
            app.say(f"canary: {error}")


def _judge(app: App, issue: QueuedIssue) -> None:
    """Stop the issue, and say so, if a limit is broken."""
    with app.database.transaction() as session:
        reason = canary.broken(canary.findings(session, issue.id), app.settings.canary)
        stopped = bool(reason) and canary.stop(session, issue.id, reason)
    if stopped:
        raise _refused(issue.slug, reason)


def _refused(slug: str, reason: str) -> RefusedError:
    return RefusedError(
        f"{slug} was stopped after its first part: {reason}",
        remedy=f"to send it to the others all the same: mailer resume {slug} && mailer send {slug}",
    )
