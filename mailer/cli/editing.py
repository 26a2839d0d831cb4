"""`mailer subscribers edit`, `tag`, `untag` and `restore`."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from sqlalchemy import Connection

from mailer.address import Address, parse_address
from mailer.audience.corrections import restore
from mailer.audience.subscribers import SubscriberView, change_address, change_tags, find, revise
from mailer.audience.transitions import Origin
from mailer.cli.app import App, Command, json_option, pair, pass_app
from mailer.errors import RefusedError, SourceError

_BY_OPERATOR = Origin("command")


@click.command("edit", cls=Command)
@click.argument("address")
@click.option("--name", help="The new name; an empty one removes it.")
@click.option("--address", "new_address", metavar="NEW", help="The new address.")
@click.option("--attribute", "attributes", multiple=True, metavar="KEY=VALUE", help="Set an attribute.")
@click.option("--remove-attribute", "removed", multiple=True, metavar="KEY", help="Remove an attribute.")
@json_option
@pass_app
def edit_command(
    app: App,
    address: str,
    name: str | None,
    new_address: str | None,
    attributes: tuple[str, ...],
    removed: tuple[str, ...],
    as_json: bool,
) -> None:
    """Change the name, address or attributes of ADDRESS.

    A new address is a line in the ledger. It must not be suppressed or belong to another subscriber.
    """
    fields = dict.fromkeys(removed) | dict(pair(text, "--attribute") for text in attributes)
    if name is None and new_address is None and not fields:
        raise click.UsageError("nothing to change: give --name, --address, --attribute or --remove-attribute")
    at = datetime.now(UTC)
    secret = app.database.secrets()[0]
    with app.database.transaction() as connection:
        known = known_subscriber(connection, parse_address(address))
        if name is not None or fields:
            revise(connection, known.id, at=at, name=name, attributes=fields or None)
        if new_address is not None:
            new = parse_address(new_address)
            change_address(connection, known.id, new, secret=secret, origin=_BY_OPERATOR, at=at)
        edited = find(connection, parse_address(new_address or address))
    assert edited is not None
    if as_json:
        app.emit({"id": edited.id, "address": edited.address, "name": edited.name,
                  "attributes": dict(edited.attributes)})  # fmt: skip
        return
    app.out(f"{edited.address}: saved")


@click.command("tag", cls=Command)
@click.argument("address")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@json_option
@pass_app
def tag_command(app: App, address: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Add tags to ADDRESS."""
    _change_tags(app, address, add=tags, as_json=as_json)


@click.command("untag", cls=Command)
@click.argument("address")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@json_option
@pass_app
def untag_command(app: App, address: str, tags: tuple[str, ...], as_json: bool) -> None:
    """Remove tags from ADDRESS."""
    _change_tags(app, address, remove=tags, as_json=as_json)


def _change_tags(
    app: App, address: str, *, add: tuple[str, ...] = (), remove: tuple[str, ...] = (), as_json: bool
) -> None:
    with app.database.transaction() as connection:
        known = known_subscriber(connection, parse_address(address))
        changes = change_tags(
            connection, known.id, add=add, remove=remove, origin=_BY_OPERATOR, at=datetime.now(UTC)
        )
    if as_json:
        app.emit({"id": known.id, "address": known.address, "changes": list(changes)})
        return
    app.out(f"{known.address}: {' '.join(changes) or 'unchanged'}")


@click.command("restore", cls=Command)
@click.argument("address")
@click.option("--reason", required=True, help="Why it was a mistake; kept in the ledger.")
@json_option
@pass_app
def restore_command(app: App, address: str, reason: str, as_json: bool) -> None:
    """Restore ADDRESS after a wrong bounce, or undo a removal of the last day.

    The subscriber gets the previous status back. People who unsubscribed or complained are never
    restored.
    """
    with app.database.transaction() as connection:
        known = known_subscriber(connection, parse_address(address))
        (done,) = restore(connection, [known.id], reason=reason, at=datetime.now(UTC))
    if done.status is None:
        raise RefusedError(
            f"{known.address} is not restored: {done.refusal}",
            remedy="see the history with: mailer why ADDRESS",
        )
    if as_json:
        app.emit({"id": known.id, "address": known.address, "status": done.status.value})
        return
    app.out(f"{known.address}: {done.status.value} again")


def known_subscriber(connection: Connection, address: Address) -> SubscriberView:
    """Return a subscriber; raise `SourceError` if there is none with this address."""
    known = find(connection, address)
    if known is None:
        raise SourceError(
            f"{address} is not a subscriber", remedy="list the subscribers with: mailer subscribers list"
        )
    return known
