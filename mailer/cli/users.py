"""`mailer users`: the people who may use the console."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TextIO

import click

from mailer.cli.app import App, Group, json_option, pass_app, yes_option
from mailer.cli.console import need_extra

_ROLES = ("reader", "editor", "sender", "admin")


@click.group(cls=Group)
def users() -> None:
    """Add, list and remove the people who may use the console."""
    need_extra()


@users.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(_ROLES),
    required=True,
    help="reader sees; editor also writes; sender also sends; admin also exports and erases.",
)
@click.option(
    "--password-file",
    type=click.File(encoding="utf-8", lazy=True),
    metavar="FILE|-",
    help="Read the password from this file's first line, instead of asking for it.",
)
@click.option("--email", default="", help="Their address at your OpenID Connect provider ([console.oidc]).")
@click.option("--no-password", is_flag=True, help="They log in through the provider only.")
@json_option
@pass_app
def add_command(
    app: App,
    name: str,
    role: str,
    password_file: TextIO | None,
    email: str,
    no_password: bool,
    as_json: bool,
) -> None:
    """Add a user called NAME, and print the secret for their authenticator app.

    People log in under [console] public_url: with the password and a six-digit code of the app, or through
    the provider in [console.oidc] if --email gives the address that they have there.
    """
    from mailer.console import audit
    from mailer.console.users import LOCAL_NAME, Role, add_user, code_url

    if no_password and password_file is not None:
        raise click.UsageError("--no-password and --password-file can't be combined")
    password = None
    if no_password:
        pass
    elif password_file is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = password_file.readline().rstrip("\r\n")
    at = datetime.now(UTC)
    with app.database.transaction() as connection:
        user, secret = add_user(connection, name, Role(role), password, email=email, at=at)
        details = {"role": user.role, "email": user.email, "password": not no_password}
        audit.record(connection, LOCAL_NAME, "user.add", user.name, details, at=at)
    url = code_url(user.name, secret, app.settings.newsletter.name) if secret else ""
    if as_json:
        app.emit({**asdict(user), "totp_secret": secret, "totp_url": url})
        return
    app.out(f"{user.name}: added as {user.role}")
    if not secret:
        return
    app.out(f"Enter this in an authenticator app; it can't be shown again:  {secret}")
    app.out(f"or open this address on the phone:  {url}")


@users.command("list")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the users."""
    from mailer.console.users import users as all_users

    with app.database.reading() as connection:
        found = all_users(connection)
    if as_json:
        app.emit({"users": [asdict(user) for user in found]})
        return
    for user in found:
        app.out(
            f"{user.name:<24}  {user.role:<8}  since {user.created_at:%Y-%m-%d}"
            f"  {user.email or ''}{'  linked' if user.linked else ''}".rstrip()
        )
    if not found:
        app.say("no users")


@users.command("unlink")
@click.argument("name")
@yes_option
@pass_app
def unlink_command(app: App, name: str, yes: bool) -> None:
    """Let the user called NAME log in with another account of the OpenID Connect provider.

    Their first login linked them to one account. Their next login links them again. Their sessions end
    immediately. If the address belongs to somebody else now, remove the user instead.
    """
    from mailer.console import accounts, audit
    from mailer.console.users import LOCAL_NAME

    app.confirm(f"Unlink {name} from their account?", yes=yes, what=f"unlinking {name}")
    with app.database.transaction() as connection:
        was = accounts.unlink(connection, name)
        if was:
            audit.record(connection, LOCAL_NAME, "user.unlink", name, {}, at=datetime.now(UTC))
    app.out(f"{name}: unlinked" if was else f"{name}: was not linked to an account")


@users.command("remove")
@click.argument("name")
@yes_option
@pass_app
def remove_command(app: App, name: str, yes: bool) -> None:
    """Remove the user called NAME. Their sessions end immediately."""
    from mailer.console import audit
    from mailer.console.users import LOCAL_NAME, remove_user

    app.confirm(f"Remove {name}?", yes=yes, what=f"removing {name}")
    with app.database.transaction() as connection:
        user = remove_user(connection, name)
        details = {"role": user.role, "email": user.email}
        audit.record(connection, LOCAL_NAME, "user.remove", name, details, at=datetime.now(UTC))
    app.out(f"{name}: removed")
