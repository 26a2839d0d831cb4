"""`mailer tokens`: keys to the API."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from mailer import api_tokens as access
from mailer.api_tokens import Scope, Token
from mailer.cli.app import App, Group, RowNumber, json_option, pass_app


@click.group(cls=Group)
def tokens() -> None:
    """Create, list and revoke API tokens."""


@tokens.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the token may do; repeatable.",
)
@json_option
@pass_app
def create_command(app: App, name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Create a token called NAME and print it. It is shown only now: only its hash is kept."""
    with app.database.transaction() as connection:
        token, text = access.create(connection, name, map(Scope, scopes), at=datetime.now(UTC))
    if as_json:
        app.emit({**_fields(token), "token": text})
        return
    app.out(text)
    app.say("Store it now: it can't be shown again. Send it as: Authorization: Bearer TOKEN")


@tokens.command("list")
@json_option
@pass_app
def list_command(app: App, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    with app.database.reading() as connection:
        found = access.tokens(connection)
    if as_json:
        app.emit({"tokens": [_fields(token) for token in found]})
        return
    for token in found:
        used = f"last used {token.used_at:%Y-%m-%d}" if token.used_at else "never used"
        state = f"revoked {token.revoked_at:%Y-%m-%d}" if token.revoked_at else used
        app.out(f"{token.id:>4}  {token.name:<24}  {state:<20}  {' '.join(sorted(token.scopes))}")
    if not found:
        app.say("no tokens")


@tokens.command("revoke")
@click.argument("token_id", type=RowNumber(), metavar="ID")
@json_option
@pass_app
def revoke_command(app: App, token_id: int, as_json: bool) -> None:
    """Revoke the token with this ID. It stops working immediately."""
    with app.database.transaction() as connection:
        changed = access.revoke(connection, token_id, at=datetime.now(UTC))
    if as_json:
        app.emit({"id": token_id, "revoked": changed})
        return
    app.out(f"token {token_id}: {'revoked' if changed else 'was already revoked'}")


def _fields(token: Token) -> dict[str, object]:
    return {**asdict(token), "scopes": sorted(token.scopes)}
