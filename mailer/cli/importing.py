"""`mailer subscribers import`, `imports` and `revert`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from mailer.audience.transfer.importing import ImportProgress, ImportReport, import_file
from mailer.audience.transfer.presets import PLAIN, PRESETS, Preset, preset_of
from mailer.audience.transfer.reverting import imports, revert
from mailer.cli.app import App, Command, RowNumber, dry_run_option, json_option, limit_option, pair, pass_app
from mailer.printable import counted


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--preset",
    metavar="NAME",
    help=f"The service that wrote the file: {', '.join(PRESETS)}; or a name from [imports] in config.toml.",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The column for a field: email=Adresse, name=Nom, tags=Groupes; or for an attribute: country=Pays.",
)
@click.option(
    "--encoding", default="", metavar="NAME", help="The encoding of the file, if the detected one is wrong."
)
@click.option("--skip", "skipped", multiple=True, metavar="COLUMN", help="A column to ignore; repeatable.")
@click.option("--tag", "tags", multiple=True, help="A tag for everyone in the file; repeatable.")
@click.option(
    "--rejected",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write rejected rows; FILE.rejected.csv by default.",
)
@click.option("--strict", is_flag=True, help="Import nothing if any row would be rejected.")
@dry_run_option
@json_option
@pass_app
def import_command(
    app: App,
    file: Path,
    preset: str | None,
    mapping: tuple[str, ...],
    encoding: str,
    skipped: tuple[str, ...],
    tags: tuple[str, ...],
    rejected: Path | None,
    strict: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import subscribers from FILE: CSV, JSON Lines, or a spreadsheet (.xlsx, .xls, .ods).

    Columns other than the address, the name, the tags and the sign-up date become attributes. The encoding,
    the delimiter and the usual column names are detected. The import is one transaction: after an error,
    nothing has changed. People who opted out, bounced, complained or were erased are never added again. With
    --preset, opt-outs at the service that wrote the file are recorded as well.
    """
    columns = _preset(app, preset).with_columns(dict(pair(text, "--map") for text in mapping), skipped)
    rejected = rejected or Path(f"{file}.rejected.csv")
    database = app.database
    with _shown(shown=not (as_json or app.quiet)) as progress:
        report = import_file(
            database,
            file,
            secret=database.secrets()[0],
            at=datetime.now(UTC),
            preset=columns,
            encoding=encoding,
            tags=tags,
            rejected_path=rejected,
            dry_run=dry_run,
            strict=strict,
            progress=progress,
        )
    if as_json:
        app.emit({**asdict(report), "dry_run": dry_run})
        return
    _tell(app, report, rejected, dry_run)


@click.command("imports", cls=Command)
@limit_option("imports", default=20, most=1_000_000_000)
@json_option
@pass_app
def imports_command(app: App, limit: int, as_json: bool) -> None:
    """List imports, newest first."""
    with app.database.reading() as connection:
        found = imports(connection, limit=limit)
    if as_json:
        app.emit({"imports": [asdict(one) for one in found]})
        return
    for one in found:
        did = [f"{one.added:,} added", f"{one.updated:,} updated"]
        did += [f"{one.opted_out:,} opted out"] * bool(one.opted_out)
        did += [f"{one.taken_off:,} unsubscribed"] * bool(one.taken_off)
        did += [f"{one.rejected:,} rejected"] * bool(one.rejected)
        did += [f"reverted on {one.reverted_at:%Y-%m-%d}"] if one.reverted_at else []
        app.out(f"{one.id:>4}  {one.at:%Y-%m-%d %H:%M}  {one.source}: {', '.join(did)}")
    if not found:
        app.say("no imports")


@click.command("revert", cls=Command)
@click.argument("import_id", type=RowNumber(), metavar="IMPORT")
@json_option
@pass_app
def revert_command(app: App, import_id: int, as_json: bool) -> None:
    """Revert IMPORT, given by its number.

    Subscribers it added are removed, and subscribers it unsubscribed are active again, unless something
    has happened to them since.
    """
    done = revert(app.database, import_id, at=datetime.now(UTC))
    if as_json:
        app.emit({"import": import_id, **asdict(done)})
        return
    app.out(f"import {import_id}: {counted(done.removed, 'subscriber')} removed")
    if done.restored:
        app.out(f"active again: {counted(done.restored, 'subscriber')} that it had unsubscribed")


def _preset(app: App, name: str | None) -> Preset:
    if name is None:
        return PLAIN
    own = app.settings.imports
    if name in own:
        return preset_of(own[name])
    if name in PRESETS:
        return PRESETS[name]
    raise click.UsageError(f"no preset '{name}'; available: {', '.join([*PRESETS, *sorted(own)])}")


@contextmanager
def _shown(*, shown: bool) -> Iterator[Callable[[ImportProgress], None]]:
    """Show a progress bar if standard error is a terminal."""
    if not (shown and sys.stderr.isatty()):
        yield lambda progress: None
        return
    # Imported on use: the other commands of this group draw nothing.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("rows", total=None, rows=0)
        yield lambda progress: bar.update(
            task, completed=progress.read, total=progress.octets, rows=progress.rows
        )


def _tell(app: App, report: ImportReport, rejected: Path, dry_run: bool) -> None:
    if dry_run:
        app.out("Nothing was changed. The import would do this:")
        for line in report.changes:
            app.out(line)
        if (hidden := _lines(report) - len(report.changes)) > 0:
            app.say(f"… and {hidden:,} more lines")
    for what, number in (
        ("added", report.added),
        ("updated", report.updated),
        ("unchanged", report.unchanged),
        ("kept out: opted out, bounced, complained or erased before, or never confirmed", report.kept_out),
        ("recorded as opted out: unknown here, so no later file can add them", report.opted_out),
        ("unsubscribed: active here, but opted out in the file", report.taken_off),
        ("left alone: opted out in the file, but signed up here themselves", report.left_alone),
        ("rejected", report.rejected),
    ):
        if number or what == "added":
            app.out(f"{number:>9,}  {what}")
    if report.encoding == "cp1252":
        app.say("The file was read as Windows-1252 (Latin-1). If names look wrong, use --encoding.")
    for row in report.examples:
        app.say(f"  line {row.line}: {row.reason}")
    if report.rejected and not dry_run:
        app.say(f"All rejected rows: {rejected}")
    if report.id is not None:
        app.say(f"To revert this import: mailer subscribers revert {report.id}")


def _lines(report: ImportReport) -> int:
    """Return how many lines the whole diff would have."""
    return report.added + report.opted_out + 2 * (report.updated + report.taken_off)
