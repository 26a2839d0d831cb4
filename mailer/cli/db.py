"""`mailer db`: upgrade, back up, restore, copy, prune, check."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from mailer.audience.privacy.retention import Terms, prune
from mailer.cli.app import App, Group, json_option, pass_app, yes_option
from mailer.database.engine import HEAD, Database, upgrade
from mailer.delivery import adopting, backups
from mailer.delivery.lock import adopt, not_sending
from mailer.errors import RefusedError, StorageError
from mailer.printable import counted


@click.group(cls=Group)
def db() -> None:
    """Upgrade, back up, restore, copy, prune and check the database."""


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
@click.option(
    "--encrypt-for",
    "recipients",
    multiple=True,
    metavar="KEY",
    help="Encrypt the copy with age for this public key (age1… or ssh-ed25519 …); repeatable.",
)
@pass_app
def backup(app: App, target: Path, keep: int | None, recipients: tuple[str, ...]) -> None:
    """Write a consistent copy to TARGET, even while an issue is being sent."""
    if keep is not None:
        target = backups.write(app.database, target, keep, at=datetime.now(UTC), recipients=recipients)
    else:
        backups.write_one(app.database, target, recipients)
    app.out(f"{target}: {target.stat().st_size:,} bytes")


_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_identity = click.option(
    "--identity", type=_file, metavar="FILE", help="Your secret key, if the backup is encrypted."
)


@db.command("verify")
@click.argument("copy", type=_file)
@_identity
@pass_app
def verify_command(app: App, copy: Path, identity: Path | None) -> None:
    """Prove that a backup can be restored: open a copy of it, look for damage, and add up its books."""
    found = backups.verify(copy, identity)
    holds = f"{counted(found.subscribers, 'subscriber')}, {counted(found.issues, 'issue')}"
    app.out(f"{copy}: version {found.version}, {holds}")


@db.command("restore")
@click.argument("copy", type=_file)
@_identity
@yes_option
@pass_app
def restore_command(app: App, copy: Path, identity: Path | None, yes: bool) -> None:
    """Replace the database with a backup, after checking the backup.

    The old database is kept beside the new one. Stop `mailer serve`, `mailer worker` and `mailer console`
    first.

    Exit codes: 0 done; 1 the backup is damaged, and nothing was changed; 5 refused; 7 the database is in use.
    """
    app.confirm(f"Replace the database with {copy}?", yes=yes, what="restoring")
    database = app.unopened_database
    aside = backups.restore(database, copy, at=datetime.now(UTC), identity=identity)
    version = database.version()
    app.out(f"{database.path}: restored, at version {version}")
    if aside is not None:
        app.out(f"the database that it replaced is in {aside}")
    if version != HEAD:
        app.say("next: mailer upgrade")
    app.say("It does not know what was sent after the backup. To send from it anyway: mailer db adopt")


@db.command("copy")
@click.option(
    "--to", "url", required=True, metavar="URL", help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
)
@json_option
@pass_app
def copy_command(app: App, url: str, as_json: bool) -> None:
    """Copy the whole database to an empty one, from SQLite to PostgreSQL or back.

    Counts and checksums of every table are compared before the copy is committed. Stop `mailer serve`,
    `mailer worker` and `mailer console` first, and set `paths.database` to the new URL afterwards.

    Exit codes: 0 done; 1 the copy differs, and nothing was copied; 5 the target is not empty; 7 the
    database is in use.
    """
    # Imported on use: few commands copy.
    from mailer.database.copying import copy
    from mailer.database.usage import require_unused

    source = app.database
    require_unused(source)
    with Database(url, folder=app.settings.folder) as target:
        if target.url == source.url:
            raise RefusedError("this is the database in use", remedy="name another one with --to")
        with not_sending(source):
            copied = copy(source, target, progress=lambda table: app.say(f"  {table}"))
        if not target.is_sqlite:
            # Imported here: only PostgreSQL has it.
            from mailer.cluster import engine

            engine.prepare(target)
        adopt(target)
        shown = target.url.render_as_string()
    rows = sum(one.rows for one in copied)
    if as_json:
        app.emit({"to": shown, "tables": [asdict(one) for one in copied]})
    else:
        app.out(f"{shown}: {counted(rows, 'row')} in {len(copied)} tables, with the same checksums")
    app.say("next: set paths.database to it in config.toml, and keep the old one as a backup")


@db.command("adopt")
@yes_option
@pass_app
def adopt_command(app: App, yes: bool) -> None:
    """Allow sending from a copied or restored database.

    Unfinished issues are paused, and scheduled ones whose time has passed wait: what an older copy sent
    would be sent again.
    """
    app.confirm(
        "Send from this database from now on? What an older copy sent may be sent again.",
        yes=yes,
        what="adopting the database",
    )
    held = adopting.adopt(app.database, at=datetime.now(UTC))
    app.out(f"{app.database.path or app.database.url.render_as_string()}: adopted")
    for slug in held.paused:
        app.say(f"{slug} is paused: check how far it was sent; to send the rest: mailer resume {slug}")
    for slug in held.missed:
        app.say(f"{slug} was due before now and may have been sent; to send it: mailer send {slug}")


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
        f"deleted: {counted(pruned.events, 'event')}, {counted(pruned.reports, 'raw report')}, "
        f"{counted(pruned.replies, 'reply', 'replies')}, "
        f"evidence in {counted(pruned.evidence, 'ledger line')}"
    )


@db.command()
@pass_app
def check(app: App) -> None:
    """Check the database for damage and for references to missing rows."""
    findings = app.database.check()
    if findings:
        raise StorageError("\n".join(findings), remedy="restore a backup")
    app.out(f"version {app.database.version()}: no errors found")
