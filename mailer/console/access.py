"""Access for other programs: the API's tokens, and the webhooks that get events."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Final

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer import api_tokens as tokens
from mailer.api_tokens import Scope, Token
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import add_page, button, card, confirmed, field, heading, say
from mailer.console.markup import note, show, table, tag, when
from mailer.console.users import Role
from mailer.errors import RefusedError
from mailer.webhooks import endpoints, queue
from mailer.webhooks.endpoints import PATTERNS, Endpoint
from mailer.webhooks.queue import HookDelivery

_DELIVERIES: Final = 20


def add_pages(desk: Desk) -> None:
    """Add the page of tokens and webhooks."""

    async def build(visit: Visit, request: Request) -> None:
        known = await desk.read(tokens.tokens)
        hooks = await desk.read(endpoints.endpoints)
        latest = await desk.read(lambda connection: queue.deliveries(connection, limit=_DELIVERIES))
        heading("API and webhooks", above=("/settings", "Settings"))
        _Tokens(desk, visit).build(known)
        _Webhooks(desk, visit).build(hooks, latest)

    add_page(desk, "/settings/access", "API and webhooks", build, Role.ADMIN)


class _Tokens:
    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit

    def build(self, known: list[Token]) -> None:
        """Add the card of the tokens."""
        with card("API tokens"):
            rows = [
                (
                    str(one.id),
                    one.name,
                    tag(f"revoked {when(one.revoked_at)[:10]}" if one.revoked_at else "active"),
                    when(one.used_at)[:10],
                    " ".join(sorted(one.scopes)),
                )
                for one in known
            ]
            if rows:
                show(table(("Number", "Name", "@State", "@Last used", "Scopes"), rows, wide=(0, 3, 4)))
            self._secret = ui.element("div")
            with ui.element("div").classes("fields"):
                self._name = field("Name of a new token")
                self._scopes = ui.select([one.value for one in Scope], multiple=True, label="Scopes")
                self._scopes.props("outlined dense use-chips")
            with ui.element("div").classes("actions"):
                button("Create the token", self._create, "main")
                for one in known:
                    if one.revoked_at is None:
                        button(f"Revoke {one.name}", partial(self._revoke, one), "danger")

    async def _create(self) -> None:
        name, scopes = self._name.value or "", [Scope(one) for one in self._scopes.value or []]
        if not scopes:
            raise RefusedError("Choose the token's scopes")
        _, text = await self._desk.change(
            self._visit,
            Role.ADMIN,
            Change("token.create", name, {"scopes": sorted(scopes)}),
            lambda connection: tokens.create(connection, name, scopes, at=datetime.now(UTC)),
        )
        _show_once(self._secret, "The token", text, "Send it as: Authorization: Bearer TOKEN")

    async def _revoke(self, token: Token) -> None:
        content = Markup("<p>Programs that use it are refused immediately.</p>")
        if await confirmed(f"Revoke {token.name}?", content, "Revoke", danger=True):
            await self._desk.change(
                self._visit,
                Role.ADMIN,
                Change("token.revoke", token.name),
                lambda connection: tokens.revoke(connection, token.id, at=datetime.now(UTC)),
            )
            ui.navigate.reload()


class _Webhooks:
    def __init__(self, desk: Desk, visit: Visit) -> None:
        self._desk = desk
        self._visit = visit

    def build(self, hooks: list[Endpoint], latest: list[HookDelivery]) -> None:
        """Add the cards of the webhooks and their deliveries."""
        with card("Webhooks"):
            rows = [
                (
                    str(one.id),
                    one.url,
                    " ".join(one.patterns),
                    tag(f"disabled {when(one.disabled_at)[:10]}" if one.disabled_at else "active"),
                )
                for one in hooks
            ]
            if rows:
                show(table(("Number", "Address", "Events", "@State"), rows, wide=(0, 2)))
            self._secret = ui.element("div")
            with ui.element("div").classes("fields"):
                self._url = field("Address of a new webhook (https://…)")
                self._events = ui.select(list(PATTERNS), multiple=True, label="Events (all if empty)")
                self._events.props("outlined dense use-chips")
                self._private = ui.checkbox("The address is in our own network")
            with ui.element("div").classes("actions"):
                button("Add the webhook", self._add, "main")
                for one in hooks:
                    button(f"Remove webhook {one.id}", partial(self._remove, one), "danger")
        if latest:
            with card("Latest deliveries"):
                self._list(latest)

    def _list(self, latest: list[HookDelivery]) -> None:
        rows = [
            (when(one.at), one.type, one.url, tag(one.state), str(one.attempts), one.said or "–")
            for one in latest
        ]
        show(table(("@Time", "@Event", "To", "@State", "#Attempts", "Answer"), rows, wide=(0, 2, 4, 5)))
        failed = list(dict.fromkeys(one.uid for one in latest if one.state == queue.HookState.FAILED))
        with ui.element("div").classes("actions"):
            for uid in failed[:5]:
                button(f"Send {uid[:12]}… again", partial(self._resend, uid))

    async def _add(self) -> None:
        url, events = (self._url.value or "").strip(), list(self._events.value or [])
        private = bool(self._private.value)
        made = await self._desk.change(
            self._visit,
            Role.ADMIN,
            Change("webhook.add", url, {"events": events}),
            lambda connection: endpoints.add(connection, url, events, private=private, at=datetime.now(UTC)),
        )
        said = "Verify requests with it, as described at standardwebhooks.com"
        _show_once(self._secret, "The secret that signs", made.secret, said)

    async def _remove(self, hook: Endpoint) -> None:
        content = Markup("<p>{} gets no more events. Its deliveries are deleted.</p>").format(hook.url)
        if await confirmed(f"Remove webhook {hook.id}?", content, "Remove", danger=True):
            await self._desk.change(
                self._visit,
                Role.ADMIN,
                Change("webhook.remove", hook.url),
                lambda connection: endpoints.remove(connection, hook.id),
            )
            ui.navigate.reload()

    async def _resend(self, uid: str) -> None:
        number = await self._desk.change(
            self._visit,
            Role.ADMIN,
            Change("webhook.resend", uid),
            lambda connection: queue.resend(connection, uid, at=datetime.now(UTC)),
        )
        say(f"Queued again for {number} {'endpoint' if number == 1 else 'endpoints'}")


def _show_once(place: ui.element, name: str, secret: str, said: str) -> None:
    """Show a secret that is not stored anywhere."""
    place.clear()
    with place:
        show(note(Markup("{}, which is shown only now: <code>{}</code>").format(name, secret), "good", said))
