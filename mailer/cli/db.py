"""`mailer db`: upgrade, back up, prune, check."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from mailer.audience.privacy.retention import Terms, prune
from mailer.cli.app import App, Group, json_option, pass_app, yes_option
from mailer.database.session import HEAD, upgrade
from mailer.delivery import backups
from mailer.delivery.lock import adopt
from mailer.errors import StorageError


@click.group(cls=Group)
def db() -> None:
    """Upgrade, back up, prune and check the database."""


@db.command("upgrade")
@pass_app
def upgrade_command(app: App) -> None:
    """Upgrade the tables to this version. Running it again changes nothing."""
    database = app.unopened_database
    before = database.version()
    upgrade(database)
    if not database.is_sqlite:
        # Imported here: only PostgreSQL has it.
        from mailer.cluster import engine

        engine.prepare(database)
    app.out(f"the database is at version {HEAD}" + ("" if before == HEAD else f" (was {before or 'new'})"))


@db.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--keep",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="TARGET is a folder: write a copy named by date, verify it, and delete all but the N newest.",
)
@pass_app
def backup(app: App, target: Path, keep: int | None) -> None:
    """Write a consistent copy to TARGET, even while an issue is being sent."""
    if keep is not None:
        target = backups.write(app.database, target, keep, at=datetime.now(UTC))
    else:
        app.database.backup(target)
    app.out(f"{target}: {target.stat().st_size:,} bytes")


@db.command("verify")
@click.argument("copy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@pass_app
def verify_command(app: App, copy: Path) -> None:
    """Prove that a backup can be restored: open a copy of it, look for damage, and add up its books."""
    found = backups.verify(copy)
    app.out(f"{copy}: version {found.version}, {found.subscribers:,} subscribers, {found.issues:,} issues")


@db.command("adopt")
@yes_option
@pass_app
def adopt_command(app: App, yes: bool) -> None:
    """Allow sending from a copied or restored database."""
    app.confirm(
        "Send from this database from now on? What an older copy sent may be sent again.",
        yes=yes,
        what="adopting the database",
    )
    adopt(app.database)
    app.out(f"{app.database.path or app.database.url.render_as_string()}: adopted")


@db.command("prune")
@json_option
@pass_app
def prune_command(app: App, as_json: bool) -> None:
    """Delete data older than `[retention]` allows.

    `mailer serve` does this every day.
    """
    terms = Terms(**msgspec.structs.asdict(app.settings.retention))
    pruned = prune(app.database, terms, at=datetime.now(UTC))
    if as_json:
        app.emit(asdict(pruned))
        return
    app.out(
        f"deleted: {pruned.events:,} events, {pruned.reports:,} raw reports, {pruned.replies:,} replies, "
        f"evidence in {pruned.evidence:,} ledger lines"
    )


@db.command()
@pass_app
def check(app: App) -> None:
    """Check the database for damage and for references to missing rows."""
    findings = app.database.check()
    if findings:
        raise StorageError("\n".join(findings), remedy="restore a backup")
    app.out(f"version {app.database.version()}: no errors found")
