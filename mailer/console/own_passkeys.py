"""The page of a user's own passkeys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.console import passkeys
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import add_page, button, card, confirmed, heading
from mailer.console.markup import show, table, when
from mailer.console.passkeys import Passkey, Site, site_of
from mailer.console.users import Role
from mailer.errors import RefusedError

_SECONDS: Final = 180.0
_FRESH: Final = timedelta(minutes=10)
"""A passkey outlives the session: an open browser that somebody left must not be enough to add one."""
_CREATE: Final = """
try {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(OPTIONS);
  return JSON.stringify((await navigator.credentials.create({ publicKey })).toJSON());
} catch (error) { return ""; }
"""


def add_pages(desk: Desk) -> None:
    """Add the page."""

    async def build(visit: Visit, request: Request) -> None:
        known = await desk.read(lambda connection: passkeys.passkeys(connection, visit.visitor.name))
        site = site_of(request, desk.settings.console.public_url)
        heading("Your passkeys", above=("/settings", "Settings"))
        with card():
            show(
                Markup('<p class="soft">Log in with a fingerprint, a face or a security key, instead of '
                       "password and code. You can add one within ten minutes of logging in.</p>")
            )  # fmt: skip
            if known:
                rows = [(str(n), when(one.created_at), when(one.used_at)) for n, one in enumerate(known, 1)]
                show(table(("Number", "@Added", "@Last used"), rows))
            with ui.element("div").classes("actions"):
                button("Add a passkey", partial(_add, desk, visit, site), "main")
                for number, one in enumerate(known, 1):
                    button(f"Remove passkey {number}", partial(_remove, desk, visit, one), "danger")

    add_page(desk, "/settings/passkeys", "Your passkeys", build)


async def _add(desk: Desk, visit: Visit, site: Site) -> None:
    await desk.check(visit, Role.READER)
    if datetime.now(UTC) - visit.visitor.opened_at > _FRESH:
        raise RefusedError(
            "You logged in more than ten minutes ago", remedy="log out and in again, then add the passkey"
        )
    name = visit.visitor.name
    challenge, options = await desk.read(lambda connection: passkeys.registration(connection, name, site))
    # JSON within a script: json.dumps escapes what could end a string, and the options are our own.
    script = _CREATE.replace("OPTIONS", json.dumps(json.loads(options)))
    credential = await ui.run_javascript(script, timeout=_SECONDS)
    if not isinstance(credential, str) or not credential:
        raise RefusedError("No passkey was made")
    await desk.change(
        visit,
        Role.READER,
        Change("passkey.add", name),
        lambda connection: passkeys.register(
            connection, name, credential, challenge, site, at=datetime.now(UTC)
        ),
    )
    ui.navigate.reload()


async def _remove(desk: Desk, visit: Visit, one: Passkey) -> None:
    content = Markup("<p>It no longer logs you in.</p>")
    if await confirmed("Remove this passkey?", content, "Remove", danger=True):
        name = visit.visitor.name
        await desk.change(
            visit,
            Role.READER,
            Change("passkey.remove", name),
            lambda connection: passkeys.remove(connection, name, one.credential_id),
        )
        ui.navigate.reload()
