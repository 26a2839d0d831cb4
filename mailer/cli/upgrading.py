"""`mailer upgrade`: bring the database to this version, with a way back."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailer.cli.app import App, Command, pass_app
from mailer.database.engine import HEAD
from mailer.delivery.upgrading import upgrade_safely


@click.command(cls=Command)
@click.option("--no-backup", is_flag=True, help="Don't copy the database first.")
@pass_app
def upgrade(app: App, no_backup: bool) -> None:
    """Upgrade the database after you have installed a new version of mailer.

    This copies the database, migrates it in one transaction, and checks it. If the check fails, the copy is
    restored. A process that is killed leaves the old database or the new one, never anything in between. Stop
    `mailer serve`, `mailer worker` and `mailer console` first, and start them again afterwards.

    Exit codes: 0 done, or nothing to do; 1 the upgrade failed and was undone; 5 refused; 7 the database is
    in use.
    """
    done = upgrade_safely(app.unopened_database, back_up=not no_backup, at=datetime.now(UTC))
    if done.before == HEAD:
        app.out(f"the database is at version {HEAD} already")
        return
    app.out(f"the database is at version {HEAD} (was {done.before or 'new'})")
    if done.backup is not None:
        app.out(f"the old one is in {done.backup}; delete it when all is well")
