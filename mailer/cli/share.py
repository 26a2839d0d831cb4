"""`mailer share`: one of the processes of `mailer send --workers`; people do not call it."""

from __future__ import annotations

import contextlib
import json
import os
import sys

import click

from mailer.bounces.refusals import learn_by
from mailer.cli.app import App, Command, log_options, pass_app
from mailer.delivery import issues
from mailer.delivery.workers import work
from mailer.errors import RefusedError


@click.command("share", cls=Command, hidden=True)
@click.argument("issue")
@click.option("--share", required=True, metavar="NUMBER/WORKERS", help="Which worker it is, for `ps`.")
@click.option("--leader", type=int, help="The run of the process that started this one; on PostgreSQL.")
@log_options
@pass_app
def share_command(app: App, issue: str, share: str, leader: int | None) -> None:
    """Send a part of a queued ISSUE for the `mailer send` that started this process.

    It writes one JSON object per line to standard output, and stops cleanly when standard input closes.
    """
    with app.database.reading() as connection:
        queued = issues.find(connection, issue)
    if queued is None:
        raise RefusedError(f"'{issue}' is not in the queue", remedy=f"send it with: mailer send {issue}")

    def report(told: dict[str, object]) -> None:
        # The parent may be gone; then standard input has closed too, and the run stops cleanly.
        with contextlib.suppress(BrokenPipeError):
            os.write(sys.stdout.fileno(), json.dumps(told).encode() + b"\n")

    work(
        app.settings,
        app.database,
        queued,
        app.signer,
        learn=learn_by(app.settings.bounces),
        report=report,
        leader=leader,
        until_closed=sys.stdin.fileno(),
        say=app.say if share.startswith("1/") else None,
    )
