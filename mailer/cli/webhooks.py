"""`mailer webhooks`: notify other programs of events."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from msgspec.structs import asdict

from mailer.cli.app import App, Group, RowNumber, json_option, limit_option, pass_app
from mailer.webhooks import endpoints, queue
from mailer.webhooks.endpoints import PATTERNS, Endpoint
from mailer.webhooks.queue import HookState


@click.group(cls=Group)
def webhooks() -> None:
    """Notify other programs of events, such as a new subscriber or a finished issue."""


@webhooks.command("add")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(PATTERNS),
    metavar="EVENT",
    help="Only this event, such as issue.finished or subscriber.*; repeatable. All events by default.",
)
@click.option("--allow-private", is_flag=True, help="Allow http:// and addresses in your own network.")
@json_option
@pass_app
def add_command(app: App, url: str, events: tuple[str, ...], allow_private: bool, as_json: bool) -> None:
    """Send events to URL, and print the secret that signs them."""
    with app.database.transaction() as connection:
        made = endpoints.add(connection, url, events, private=allow_private, at=datetime.now(UTC))
    if as_json:
        app.emit({**_fields(made), "secret": made.secret})
        return
    app.out(made.secret)
    app.say("Verify requests with this secret, as described at https://www.standardwebhooks.com")


@webhooks.command("list")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the endpoints, without their secrets."""
    with app.database.reading() as connection:
        found = endpoints.endpoints(connection)
    if as_json:
        app.emit({"webhooks": [_fields(one) for one in found]})
        return
    for one in found:
        state = f"  disabled {one.disabled_at:%Y-%m-%d}" if one.disabled_at else ""
        app.out(f"{one.id:>4}  {one.url}  {' '.join(one.patterns)}{state}")
    if not found:
        app.say("no webhooks")


@webhooks.command("remove")
@click.argument("endpoint_id", type=RowNumber(), metavar="ID")
@pass_app
def remove_command(app: App, endpoint_id: int) -> None:
    """Stop sending events to the endpoint with this ID, and delete its deliveries."""
    with app.database.transaction() as connection:
        endpoints.remove(connection, endpoint_id)
    app.out(f"webhook {endpoint_id}: removed")


@webhooks.command("deliveries")
@click.option(
    "--webhook", "endpoint_id", type=RowNumber(), metavar="ID", help="Only deliveries to this endpoint."
)
@click.option(
    "--state", type=click.Choice([state.value for state in HookState]), help="Only deliveries in this state."
)
@limit_option("deliveries")
@json_option
@pass_app
def deliveries_command(
    app: App, endpoint_id: int | None, state: str | None, limit: int, as_json: bool
) -> None:
    """List the latest deliveries and the reasons why some failed."""
    wanted = None if state is None else HookState(state)
    with app.database.reading() as connection:
        found = queue.deliveries(connection, endpoint_id=endpoint_id, state=wanted, limit=limit)
    if as_json:
        app.emit({"deliveries": [asdict(one) for one in found]})
        return
    for one in found:
        said = f"  {one.said}" if one.said else ""
        app.out(
            f"{one.uid}  {one.at:%Y-%m-%d %H:%M:%S}  {one.type:<24}  {one.state:<7}"
            f"  {one.attempts} attempts  {one.url}{said}"
        )
    if not found:
        app.say("no deliveries")


@webhooks.command("resend")
@click.argument("event")
@pass_app
def resend_command(app: App, event: str) -> None:
    """Deliver EVENT (evt_…) again, to every endpoint that it was for."""
    with app.database.transaction() as connection:
        number = queue.resend(connection, event, at=datetime.now(UTC))
    app.out(f"{event}: queued for {number} {'endpoint' if number == 1 else 'endpoints'}")


def _fields(one: Endpoint) -> dict[str, object]:
    return {name: value for name, value in asdict(one).items() if name != "secret"}
