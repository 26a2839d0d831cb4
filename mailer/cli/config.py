"""`mailer config`: show settings and where they come from, and check them."""

from __future__ import annotations

import click

from mailer.audience.segments import parse_segment
from mailer.cli.app import App, Group, json_option, pass_app
from mailer.config import flatten, password
from mailer.errors import ConfigError, SegmentError
from mailer.smtp.dkim import load_key
from mailer.web.theme import theme_of


@click.group(cls=Group)
def config() -> None:
    """Show and check settings."""


@config.command()
@json_option
@pass_app
def show(app: App, as_json: bool) -> None:
    """Print all settings and where each comes from.

    Passwords and secrets are masked.
    """
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
    """Check config.toml and everything it refers to.

    This reads passwords, keys, segments, and your own texts and pages.
    """
    settings = app.settings
    for relay in settings.relays.values():
        password(relay, settings.folder)
    for box in settings.bounces.boxes:
        password(box, settings.folder)
    for key in settings.dkim:
        load_key(settings.path(key.key_file))
    for name, text in settings.segments.items():
        try:
            parse_segment(text, settings.segments)
        except SegmentError as error:
            place = settings.origin(f"segments.{name}")
            raise ConfigError(f"{place}: 'segments.{name}': {error.message}", remedy=error.remedy) from error
    theme_of(settings)
    app.out(f"{app.config_path}: valid; {len(settings.relays) or 'no'} relay(s)")
    if not settings.relays:
        app.say("Without a relay, mail goes to the outbox on this machine. See [relays] in config.toml.")
    if not settings.newsletter.postal_address:
        app.say("newsletter.postal_address is empty: `mailer send` refuses to use a public relay (CAN-SPAM).")
