"""`mailer subscribers`: add, import, export, list, count, remove, erase."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from mailer.address import parse_address
from mailer.audience import exporting
from mailer.audience.erasing import erase
from mailer.audience.importing import ImportReport, Progress, import_file
from mailer.audience.preferences import leavings
from mailer.audience.presets import PLAIN, PRESETS, Preset, preset_of
from mailer.audience.reverting import imports, revert
from mailer.audience.segments import parse_segment
from mailer.audience.subscribers import Origin, Outcome, add, find, unsubscribe
from mailer.cli.app import App, Group, dry_run_option, json_option, pass_app, yes_option
from mailer.errors import RefusedError, SourceError

where_option = click.option(
    "--where", "segment", default="", metavar="SEGMENT", help="Only these, e.g. 'tag:vip'."
)


@click.group(cls=Group)
def subscribers() -> None:
    """Add, import, export, list, remove and erase subscribers."""


@subscribers.command("add")
@click.argument("address")
@click.option("--name", default="", help="As it stands in To: and in {{ subscriber.name }}.")
@click.option("--tag", "tags", multiple=True, help="May be given several times.")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="KEY=VALUE", help="May be given several times."
)
@json_option
@pass_app
def add_command(
    app: App, address: str, name: str, tags: tuple[str, ...], attributes: tuple[str, ...], as_json: bool
) -> None:
    """Add ADDRESS, who agreed to it. Whoever opted out before is not brought back."""
    parsed = parse_address(address)
    pairs = dict(_pair(text, "--attribute") for text in attributes)
    with app.database.transaction() as session:
        added = add(
            session,
            parsed,
            secret=app.database.secrets()[0],
            origin=Origin("command"),
            at=datetime.now(UTC),
            name=name,
            attributes=pairs,
            tags=tags,
        )
    if added.outcome is Outcome.KEPT_OUT:
        raise RefusedError(
            f"{parsed} opted out, bounced, complained or was erased before",
            remedy="only the person can come back, by the pages of: mailer serve",
        )
    if as_json:
        app.emit({"id": added.subscriber_id, "address": str(parsed), "outcome": added.outcome.value})
        return
    app.out(f"{parsed}: {added.outcome.value}")


@subscribers.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--preset",
    metavar="NAME",
    help=f"The service that wrote the file: {', '.join(PRESETS)}; or a name of [imports] in config.toml.",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Where a field comes from: email=Adresse, name=Nom, tags=Groupes, or an attribute, country=Pays.",
)
@click.option("--encoding", default="", metavar="NAME", help="Of the file, if it is not found out rightly.")
@click.option("--skip", "skipped", multiple=True, metavar="COLUMN", help="A column that is not kept.")
@click.option("--tag", "tags", multiple=True, help="For everybody in the file; may be given several times.")
@click.option(
    "--rejected",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where rejected rows go; FILE.rejected.csv by default.",
)
@click.option("--strict", is_flag=True, help="Import nothing if one row would be rejected.")
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
    """Import FILE, CSV or JSON Lines.

    What is neither the address nor the name becomes an attribute. Encoding, delimiter and the usual
    column names are found out. It is one transaction: all of it, or after an error nothing. Nobody who
    opted out, bounced, complained or was erased is brought back; --preset also knows who was out at the
    service the file comes from: that is recorded, so that no other file brings them in.
    """
    columns = _preset(app, preset).with_columns(dict(_pair(text, "--map") for text in mapping), skipped)
    rejected = rejected or file.with_name(file.name + ".rejected.csv")
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


@subscribers.command("imports")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
@json_option
@pass_app
def imports_command(app: App, limit: int, as_json: bool) -> None:
    """List imports, the newest first."""
    with app.database.reading() as session:
        found = imports(session, limit=limit)
    if as_json:
        app.emit({"imports": [asdict(one) for one in found]})
        return
    for one in found:
        did = [f"{one.added:,} added", f"{one.updated:,} updated"]
        did += [f"{one.opted_out:,} opted out"] * bool(one.opted_out)
        did += [f"{one.taken_off:,} taken off"] * bool(one.taken_off)
        did += [f"{one.rejected:,} rejected"] * bool(one.rejected)
        did += [f"taken back on {one.reverted_at:%Y-%m-%d}"] if one.reverted_at else []
        app.out(f"{one.id:>4}  {one.at:%Y-%m-%d %H:%M}  {one.source}: {', '.join(did)}")
    if not found:
        app.say("no imports")


@subscribers.command("revert")
@click.argument("import_id", type=int, metavar="IMPORT")
@json_option
@pass_app
def revert_command(app: App, import_id: int, as_json: bool) -> None:
    """Take back IMPORT, by its number.

    Whom it added is removed, and whom it took off is active again, unless something has happened since.
    """
    done = revert(app.database, import_id, at=datetime.now(UTC))
    if as_json:
        app.emit({"import": import_id, **asdict(done)})
        return
    app.out(f"import {import_id}: {done.removed:,} subscribers removed")
    if done.restored:
        app.out(f"{done.restored:,} whom it took off are active again")


@subscribers.command("export")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("-o", "--out", default="-", metavar="FILE|-", help="Where to; standard output by default.")
@where_option
@pass_app
def export_command(app: App, form: str, out: str, segment: str) -> None:
    """Write subscribers as CSV or JSON Lines."""
    write = exporting.write_csv if form == "csv" else exporting.write_json_lines
    condition = _condition(app, segment)
    with app.database.reading() as session:
        if out == "-":
            write(session, sys.stdout, condition)
            return
        app.say(f"{out}: {_to_file(Path(out), write, session, condition):,} subscribers")


@subscribers.command("list")
@where_option
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1))
@json_option
@pass_app
def list_command(app: App, segment: str, limit: int, as_json: bool) -> None:
    """List subscribers by the order in which they came."""
    with app.database.reading() as session:
        found = list(exporting.rows(session, _condition(app, segment), limit=limit))
        total = exporting.count(session, _condition(app, segment))
    if as_json:
        app.emit({"subscribers": found, "total": total})
        return
    for row in found:
        app.out(f"{row['status']:<12}  {row['email']:<40}  {row['name']}  {' '.join(row['tags'])}".rstrip())
    if total > len(found):
        app.say(f"… and {total - len(found):,} more; see --limit")
    elif not found:
        app.say("no subscribers")


@subscribers.command()
@where_option
@json_option
@pass_app
def count(app: App, segment: str, as_json: bool) -> None:
    """Count subscribers."""
    with app.database.reading() as session:
        number = exporting.count(session, _condition(app, segment))
    if as_json:
        app.emit({"where": segment, "count": number})
        return
    app.out(str(number))


@subscribers.command()
@json_option
@pass_app
def reasons(app: App, as_json: bool) -> None:
    """Count why people left, of those who said so."""
    with app.database.reading() as session:
        counted = leavings(session)
    if as_json:
        app.emit({"left": counted.count, "reasons": counted.reasons, "none_given": counted.silent})
        return
    app.out(f"{counted.count:,} left of their own accord")
    for reason, number in [*counted.reasons.items(), ("none given", counted.silent)]:
        app.out(f"{number:>9,}  {reason}")


@subscribers.command()
@click.argument("address")
@json_option
@pass_app
def remove(app: App, address: str, as_json: bool) -> None:
    """Unsubscribe ADDRESS. The opt-out is kept, so no import brings it back."""
    parsed = parse_address(address)
    with app.database.transaction() as session:
        known = find(session, parsed)
        if known is None:
            raise SourceError(f"{parsed} is not a subscriber", remedy="see: mailer subscribers list")
        changed = unsubscribe(session, known.id, origin=Origin("command"), at=datetime.now(UTC))
    if as_json:
        app.emit({"id": known.id, "address": str(parsed), "changed": changed})
        return
    app.out(f"{parsed}: {'unsubscribed' if changed else f'is {known.status.value} already'}")


@subscribers.command()
@click.option("--language", default="", metavar="TAG", help="Such as de; the newsletter's own by default.")
@pass_app
def form(app: App, language: str) -> None:
    """Print the sign-up form as HTML, for a page of your own."""
    from mailer.web.look import Look
    from mailer.web.subscribe import embedded_form

    settings = app.settings
    look = Look(
        settings.brand,
        name=settings.newsletter.name,
        language=settings.newsletter.language,
        own=settings.path(settings.paths.templates),
    )
    voice = look.speaking(language or settings.newsletter.language)
    app.out(embedded_form(voice, settings.web.public_url))


@subscribers.command("erase")
@click.argument("address")
@yes_option
@json_option
@pass_app
def erase_command(app: App, address: str, yes: bool, as_json: bool) -> None:
    """Take out everything known of ADDRESS, for good.

    Books keep their deliveries, without anything personal. A keyed hash of the address stays, so that
    no import brings it back.
    """
    parsed = parse_address(address)
    app.confirm(f"Erase {parsed} for good?", yes=yes, what=f"erasing {parsed}")
    secret = app.database.secrets()[0]
    with app.database.transaction() as session:
        done = erase(session, parsed, secret=secret, at=datetime.now(UTC))
    if as_json:
        app.emit(asdict(done))
        return
    app.out(
        f"erased: {done.ledger_lines} ledger lines, {done.events} events, {done.replies} replies, "
        f"{done.reports} reports"
    )
    if not done.known:
        app.say("It was no subscriber (or is erased already); its hash keeps it out of imports.")


def _condition(app: App, segment: str) -> ColumnElement[bool] | None:
    return parse_segment(segment, app.settings.segments).condition if segment else None


def _to_file(
    path: Path,
    write: Callable[[Session, TextIO, ColumnElement[bool] | None], int],
    session: Session,
    condition: ColumnElement[bool] | None,
) -> int:
    try:
        with path.open("w", encoding="utf-8", newline="") as target:
            path.chmod(0o600)
            return write(session, target, condition)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error


def _pair(text: str, option: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise click.UsageError(f"{option} takes KEY=VALUE, not '{text}'")
    return key, value


def _preset(app: App, name: str | None) -> Preset:
    if name is None:
        return PLAIN
    own = app.settings.imports
    if name in own:
        return preset_of(own[name])
    if name in PRESETS:
        return PRESETS[name]
    raise click.UsageError(f"no preset '{name}'; there are: {', '.join([*PRESETS, *sorted(own)])}")


@contextmanager
def _shown(*, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """Show how far an import has come, if somebody looks on."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield lambda progress: None
        return
    with Bar(
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("rows", total=None, rows=0)
        yield lambda progress: bar.update(
            task, completed=progress.read, total=progress.octets, rows=progress.rows
        )


def _tell(app: App, report: ImportReport, rejected: Path, dry_run: bool) -> None:
    if dry_run:
        app.out("Nothing was changed; this is what an import would do:")
        for line in report.changes:
            app.out(line)
        if (hidden := _lines(report) - len(report.changes)) > 0:
            app.say(f"… and {hidden:,} more lines")
    for what, number in (
        ("added", report.added),
        ("updated", report.updated),
        ("unchanged", report.unchanged),
        ("kept out (opted out, bounced, complained or erased before, or never confirmed)", report.kept_out),
        ("opted out there, unknown here: recorded, so that no file brings them in", report.opted_out),
        ("taken off: active until now, opted out there", report.taken_off),
        ("left alone: opted out there, but signed up here themselves", report.left_alone),
        ("rejected", report.rejected),
    ):
        if number or what == "added":
            app.out(f"{number:>9,}  {what}")
    if report.encoding == "cp1252":
        app.say("The file was read as Windows-1252 (Latin-1); if names look wrong, say --encoding.")
    for row in report.examples:
        app.say(f"  line {row.line}: {row.reason}")
    if report.rejected and not dry_run:
        app.say(f"All rejected rows: {rejected}")
    if report.id is not None:
        app.say(f"Taken back with: mailer subscribers revert {report.id}")


def _lines(report: ImportReport) -> int:
    """Return how many lines the whole diff would have."""
    return report.added + report.opted_out + 2 * (report.updated + report.taken_off)
