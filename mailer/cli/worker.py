"""`mailer worker`: do everything that has its time, until it is stopped."""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from typing import Final

import click
from msgspec.structs import asdict

from mailer.cli.app import App, Command, pass_app

_FETCH_SECONDS: Final = 300.0
"""How often to read the bounce mailboxes."""


@click.command(cls=Command)
@pass_app
def worker(app: App) -> None:
    """Send scheduled issues, retries and letters until you stop it (Ctrl-C, SIGTERM).

    It queues scheduled issues on time. Every half minute it sends the remaining deliveries of all issues
    that are not paused: retries, and the rest of an interrupted run. It also reads the bounce mailboxes
    and deletes expired data.
    """
    from mailer.audience.privacy.retention import Terms, prune
    from mailer.bounces.refusals import learn_by
    from mailer.cli import canary
    from mailer.delivery.letter_sender import LetterSender
    from mailer.delivery.rounds import Rounds
    from mailer.web.upkeep import daily

    settings, database = app.settings, app.database
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *received: stopped.set())
    terms = Terms(**asdict(settings.retention))
    letters = LetterSender(settings, database, app.signer)
    rounds = Rounds(
        settings,
        database,
        app.signer,
        learn=learn_by(settings.bounces),
        steps_of=lambda run: canary.steps(app, run),
        say=app.say,
    )
    with (
        daily(lambda: prune(database, terms, at=datetime.now(UTC))),
        daily(lambda: canary.fetch(app), every_seconds=_FETCH_SECONDS),
    ):
        letters.start()
        rounds.start()
        app.say("working; stop with Ctrl-C")
        stopped.wait()
        app.say("stopping: messages in flight are settled first")
        rounds.close()
        letters.close()
