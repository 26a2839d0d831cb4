"""`mailer config`: what is set, and from where."""

from __future__ import annotations

import click

from mailer.cli.app import App, Group, json_option, pass_app
from mailer.config import flatten, password


@click.group(cls=Group)
def config() -> None:
    """Show and check the settings."""


@config.command()
@json_option
@pass_app
def show(app: App, as_json: bool) -> None:
    """Print every setting with its value and where it comes from; secrets are masked."""
    values = flatten(app.settings)
    if as_json:
        app.emit(
            {
                "settings": {
                    key: {"value": value, "origin": app.settings.origin(key)} for key, value in values.items()
                }
            }
        )
        return
    width = max(len(key) for key in values)
    for key, value in values.items():
        app.out(f"{key:<{width}}  {value or '-'}  ({app.settings.origin(key)})")


@config.command()
@pass_app
def check(app: App) -> None:
    """Check config.toml and the environment, and that every secret can be read."""
    for relay in app.settings.relays.values():
        password(relay, app.settings.folder)
    for box in app.settings.bounces.boxes:
        password(box, app.settings.folder)
    app.out(f"{app.config_path}: fine; {len(app.settings.relays) or 'no'} relay(s)")
    if not app.settings.relays:
        app.say("Mail goes to the outbox on this machine. See [relays] in config.toml.")
    if not app.settings.newsletter.postal_address:
        app.say("newsletter.postal_address is empty: a public relay will be refused (CAN-SPAM).")
