"""`mailer worker`: do everything that has its time, until it is stopped."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from typing import Final

import click
from msgspec.structs import asdict

from mailer.cli.app import App, Command, pass_app

_FETCH_SECONDS: Final = 300.0
"""How often to read the bounce mailboxes."""


@click.command(cls=Command)
@click.option(
    "--every",
    "look_seconds",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look for work.",
)
@click.option("--until-closed", is_flag=True, help="Also stop when standard input closes.")
@pass_app
def worker(app: App, look_seconds: float, until_closed: bool) -> None:
    """Send scheduled issues, retries and letters until you stop it (Ctrl-C, SIGTERM).

    It queues scheduled issues on time. Every half minute (see --every) it sends the remaining
    deliveries of all issues that are not paused: retries, and the rest of an interrupted run. It also
    reads the bounce mailboxes and deletes expired data.
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
        look_seconds=look_seconds,
    )
    if until_closed:
        threading.Thread(target=_wait_for_end, args=(stopped,), name="mailer-parent", daemon=True).start()
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


def _wait_for_end(stopped: threading.Event) -> None:
    """Stop the worker when standard input closes: the process that started it has ended."""
    sys.stdin.buffer.read()
    stopped.set()
