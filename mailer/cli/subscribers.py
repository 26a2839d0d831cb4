"""`mailer subscribers`: add, edit, import, export, list, count, remove, erase."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TextIO

import click
from sqlalchemy import ColumnElement, Connection

from mailer.address import parse_address
from mailer.audience.transfer import exporting
from mailer.cli.app import App, Group, json_option, limit_option, pair, pass_app, yes_option
from mailer.cli.listing import table
from mailer.errors import RefusedError, SourceError
from mailer.printable import counted

where_option = click.option(
    "--where", "segment", default="", metavar="SEGMENT", help="Only these, e.g. 'tag:vip'."
)


# The other commands are imported when they are used, so that `list` starts sooner.
@click.group(
    cls=Group,
    elsewhere={
        "import": "mailer.cli.importing:import_command",
        "imports": "mailer.cli.importing:imports_command",
        "revert": "mailer.cli.importing:revert_command",
        "edit": "mailer.cli.editing:edit_command",
        "tag": "mailer.cli.editing:tag_command",
        "untag": "mailer.cli.editing:untag_command",
        "restore": "mailer.cli.editing:restore_command",
    },
)
def subscribers() -> None:
    """Add, edit, import, export, list, remove and erase subscribers."""


@subscribers.command("add")
@click.argument("address")
@click.option("--name", default="", help="The name in To: and in {{ subscriber.name }}.")
@click.option("--tag", "tags", multiple=True, help="A tag; repeatable.")
@click.option(
    "--attribute", "attributes", multiple=True, metavar="KEY=VALUE", help="An attribute; repeatable."
)
@json_option
@pass_app
def add_command(
    app: App, address: str, name: str, tags: tuple[str, ...], attributes: tuple[str, ...], as_json: bool
) -> None:
    """Add ADDRESS, with the person's consent. People who opted out before are not added."""
    from mailer.audience.subscribers import AddResult, add
    from mailer.audience.transitions import Origin

    parsed = parse_address(address)
    pairs = dict(pair(text, "--attribute") for text in attributes)
    with app.database.transaction() as connection:
        added = add(
            connection,
            parsed,
            secret=app.database.secrets()[0],
            origin=Origin("command"),
            at=datetime.now(UTC),
            name=name,
            attributes=pairs,
            tags=tags,
        )
    if added.result is AddResult.KEPT_OUT:
        raise RefusedError(
            f"{parsed} opted out, bounced, complained or was erased before",
            remedy="only the person can subscribe again, on the pages of: mailer serve",
        )
    if as_json:
        app.emit({"id": added.subscriber_id, "address": str(parsed), "outcome": added.result.value})
        return
    app.out(f"{parsed}: {added.result.value}")


@subscribers.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="The format of the file.",
)
@click.option(
    "-o", "--out", default="-", metavar="FILE|-", help="The file to write; standard output by default."
)
@click.option(
    "--flat/--no-flat",
    default=True,
    help="CSV: a column for each attribute (the default), or one column of JSON.",
)
@where_option
@pass_app
def export_command(app: App, form: str, out: str, flat: bool, segment: str) -> None:
    """Write subscribers as CSV or JSON Lines. Importing that file again changes nothing."""
    write = partial(exporting.write_csv, flat=flat) if form == "csv" else exporting.write_json_lines
    condition = _condition(app, segment)
    with app.database.reading() as connection:
        if out == "-":
            write(connection, sys.stdout, condition)
            return
        app.say(f"{out}: {_to_file(Path(out), write, connection, condition):,} subscribers")


@subscribers.command("list")
@where_option
@limit_option("subscribers", most=1_000_000_000)
@click.option(
    "--columns",
    default="status,email,name,tags",
    show_default=True,
    metavar="NAMES",
    help="Any of status, email, name, tags, joined and the attributes.",
)
@json_option
@pass_app
def list_command(app: App, segment: str, limit: int, columns: str, as_json: bool) -> None:
    """List subscribers, oldest first."""
    with app.database.reading() as connection:
        found = list(exporting.rows(connection, _condition(app, segment), limit=limit))
        total = exporting.count(connection, _condition(app, segment))
    if as_json:
        app.emit({"subscribers": found, "total": total})
        return
    if found:
        for line in table(found, [name.strip() for name in columns.split(",") if name.strip()]):
            app.out(line)
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
    with app.database.reading() as connection:
        number = exporting.count(connection, _condition(app, segment))
    if as_json:
        app.emit({"where": segment, "count": number})
        return
    app.out(str(number))


@subscribers.command()
@json_option
@pass_app
def reasons(app: App, as_json: bool) -> None:
    """Count the reasons that people gave for unsubscribing."""
    from mailer.audience.preferences import unsubscribe_reasons

    with app.database.reading() as connection:
        given = unsubscribe_reasons(connection)
    if as_json:
        app.emit({"left": given.count, "reasons": given.reasons, "none_given": given.silent})
        return
    app.out(f"{counted(given.count, 'person', 'people')} unsubscribed")
    for reason, number in [*given.reasons.items(), ("none given", given.silent)]:
        app.out(f"{number:>9,}  {reason}")


@subscribers.command()
@click.argument("address")
@yes_option
@json_option
@pass_app
def remove(app: App, address: str, yes: bool, as_json: bool) -> None:
    """Unsubscribe ADDRESS. The opt-out is kept, so no import brings it back.

    `mailer subscribers restore` can undo it within a day.
    """
    from mailer.audience.ledger import unsubscribe
    from mailer.audience.transitions import Origin
    from mailer.cli.editing import known_subscriber

    parsed = parse_address(address)
    with app.database.reading() as connection:
        known_subscriber(connection, parsed)
    app.confirm(f"Unsubscribe {parsed}?", yes=yes, what=f"unsubscribing {parsed}")
    with app.database.transaction() as connection:
        known = known_subscriber(connection, parsed)
        changed = unsubscribe(connection, known.id, origin=Origin("command"), at=datetime.now(UTC))
    if as_json:
        app.emit({"id": known.id, "address": str(parsed), "changed": changed})
        return
    app.out(f"{parsed}: {'unsubscribed' if changed else f'is {known.status.value} already'}")


@subscribers.command()
@click.option(
    "--language", default="", metavar="TAG", help="A language such as de; the newsletter's own by default."
)
@pass_app
def form(app: App, language: str) -> None:
    """Print the sign-up form as HTML, for your own website."""
    from mailer.web.public.subscribe import embedded_form
    from mailer.web.theme import theme_of

    settings = app.settings
    theme = theme_of(settings).speaking(language or settings.newsletter.language)
    app.out(embedded_form(theme, settings.web.public_url))


@subscribers.command("erase")
@click.argument("address")
@yes_option
@json_option
@pass_app
def erase_command(app: App, address: str, yes: bool, as_json: bool) -> None:
    """Permanently erase everything about ADDRESS.

    Deliveries stay in the books without anything personal. A keyed hash of the address remains, so that
    no import adds it again.
    """
    from mailer.audience.privacy.erasing import erase

    parsed = parse_address(address)
    app.confirm(f"Permanently erase {parsed}?", yes=yes, what=f"erasing {parsed}")
    secret = app.database.secrets()[0]
    with app.database.transaction() as connection:
        done = erase(connection, parsed, secret=secret, at=datetime.now(UTC))
    if as_json:
        app.emit(asdict(done))
        return
    app.out(
        f"erased: {counted(done.ledger_lines, 'ledger line')}, {counted(done.events, 'event')}, "
        f"{counted(done.replies, 'reply', 'replies')}, {counted(done.reports, 'report')}"
    )
    if not done.known:
        app.say("It was not a subscriber, or was erased before. Its hash keeps imports from adding it.")


def _condition(app: App, segment: str) -> ColumnElement[bool] | None:
    if not segment:
        return None
    # Load the parser only if a segment is given.
    from mailer.audience.segments import parse_segment

    return parse_segment(segment, app.settings.segments).condition


def _to_file(
    path: Path,
    write: Callable[[Connection, TextIO, ColumnElement[bool] | None], int],
    connection: Connection,
    condition: ColumnElement[bool] | None,
) -> int:
    try:
        with path.open("w", encoding="utf-8", newline="") as target:
            path.chmod(0o600)
            return write(connection, target, condition)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from error
