"""One subscriber: what happened to them and why, and what can be changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection
from starlette.requests import Request

from mailer.address import parse_address
from mailer.audience.corrections import restore
from mailer.audience.ledger import unsubscribe
from mailer.audience.privacy.erasing import erase
from mailer.audience.subscribers import SubscriberView, change_address, change_tags, get, revise
from mailer.audience.transitions import Origin
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import add_page, button, card, confirmed, field, heading
from mailer.console.markup import facts, link, note, show, tag, when
from mailer.console.users import Role
from mailer.database.tables import DeliveryState, SubscriberStatus
from mailer.errors import RefusedError, SourceError
from mailer.printable import whole_number
from mailer.reports.alerts import Happening
from mailer.reports.history import Story, story

_ORIGIN: Final = Origin("command", note="in the console")


def add_pages(desk: Desk) -> None:
    """Add the page of a subscriber."""

    async def build(visit: Visit, request: Request) -> None:
        written = str(request.path_params["number"])
        number = whole_number(written) or 0

        def known(connection: Connection) -> tuple[SubscriberView, Story]:
            found = get(connection, number)
            told = story(connection, found.address_key) if found else None
            if found is None or told is None:
                raise SourceError(
                    f"there is no subscriber {written[:20]}", remedy="see the list of subscribers"
                )
            return found, told

        person, told = await desk.read(known)
        _Person(desk, visit, person, told).build()

    add_page(desk, "/subscribers/{number}", "Subscriber", build)


class _Person:
    def __init__(self, desk: Desk, visit: Visit, person: SubscriberView, told: Story) -> None:
        self._desk = desk
        self._visit = visit
        self._person = person
        self._quiet_days = desk.settings.bounces.quiet_days
        self._story = told

    def build(self) -> None:
        person, told = self._person, self._story
        with heading(person.address, above=("/subscribers", "Subscribers")):
            show(tag(person.status))
        if told.suppressed:
            show(note(f"Suppressed: {told.suppressed}. No email is sent to this address.", "warn"))
        if told.paused_until:
            show(note(f"Paused by themselves until {when(told.paused_until)}.", "warn"))
        with ui.element("div").classes("split wide"):
            with card("History"):
                show(_timeline(person.id, told.happenings))
            with ui.element("div").classes("stack"):
                self._build_facts()
                if self._visit.visitor.role.may(Role.EDITOR) and person.status != SubscriberStatus.ERASED:
                    self._build_edit()
                    self._build_status()

    def _build_facts(self) -> None:
        person, told = self._person, self._story
        pairs = [
            ("Name", person.name or "–"),
            ("Joined", when(person.created_at)),
            ("Tags", Markup(" ").join(map(tag, person.tags)) or "–"),
            *((str(name), str(value)) for name, value in person.attributes.items()),
        ]
        if points := told.soft_points_at(datetime.now(UTC), self._quiet_days):
            pairs.append(("Soft bounce points", f"{points:g}"))
        with card("About"):
            show(facts(pairs))

    def _build_edit(self) -> None:
        person = self._person
        with card("Edit"):
            name = field("Name", person.name)
            address = field("Address", person.address, type="email")
            tags = field("Tags, separated by commas", ", ".join(person.tags))
            attribute = field("Set an attribute", hint="country=RO sets it, country= removes it.")

            async def save() -> None:
                wanted = [one.strip() for one in (tags.value or "").split(",") if one.strip()]
                await self._save(
                    name.value or "", (address.value or "").strip(), wanted, attribute.value or ""
                )

            with ui.element("div").classes("actions"):
                button("Save", save, "main")

    async def _save(self, name: str, address: str, tags: list[str], attribute: str) -> None:
        person, at, secret = self._person, datetime.now(UTC), self._desk.database.secrets()[0]
        fields: dict[str, object] = {}
        if attribute.strip():
            key, equals, value = (part.strip() for part in attribute.partition("="))
            if not (key and equals):
                raise RefusedError("Write the attribute as NAME=VALUE")
            fields[key] = value or None
        changed = [
            word
            for word, differs in (
                ("name", name != person.name),
                ("address", address != person.address),
                ("tags", sorted(tags) != sorted(person.tags)),
                ("attribute", bool(fields)),
            )
            if differs
        ]

        def work(connection: Connection) -> None:
            revise(connection, person.id, at=at, name=name, attributes=fields or None)
            change_tags(
                connection,
                person.id,
                add=set(tags) - set(person.tags),
                remove=set(person.tags) - set(tags),
                origin=_ORIGIN,
                at=at,
            )
            if address != person.address:
                new = parse_address(address)
                change_address(connection, person.id, new, secret=secret, origin=_ORIGIN, at=at)

        # Only which fields changed: the values are personal, and erasing would have to find them.
        await self._change("subscriber.edit", Role.EDITOR, work, {"changed": changed})

    def _build_status(self) -> None:
        person, role = self._person, self._visit.visitor.role
        with card("Status"), ui.element("div").classes("actions"):
            if person.status in (SubscriberStatus.ACTIVE, SubscriberStatus.PENDING):
                button("Unsubscribe", self._unsubscribe)
            elif role.may(Role.ADMIN):
                button("Restore", self._restore)
            if role.may(Role.ADMIN):
                button("Erase", self._erase, "danger")

    async def _unsubscribe(self) -> None:
        person = self._person
        content = Markup("<p>{} gets no more issues, and no import adds them again.</p>").format(
            person.address
        )
        if await confirmed("Unsubscribe this person?", content, "Unsubscribe"):
            await self._change(
                "subscriber.unsubscribe",
                Role.EDITOR,
                lambda connection: unsubscribe(connection, person.id, origin=_ORIGIN, at=datetime.now(UTC)),
            )

    async def _restore(self) -> None:
        with ui.dialog().props('aria-label="Restore"') as dialog, ui.element("div").classes("box"):
            show(Markup("<h2>Restore this person?</h2>"))
            reason = field("Why it was a mistake", hint="Kept in the ledger.").props("autofocus")

            async def agree() -> None:
                if not (reason.value or "").strip():
                    raise RefusedError("Write the reason first")
                dialog.submit(reason.value.strip())

            with ui.element("div").classes("actions"):
                button("Restore", agree, "main")
                button("Cancel", _closing(dialog))
        said = await dialog
        dialog.delete()
        if not said:
            return

        def work(connection: Connection) -> None:
            (done,) = restore(connection, [self._person.id], reason=str(said), at=datetime.now(UTC))
            if done.status is None:
                raise RefusedError(f"Not restored: {done.refusal}", remedy="their history says why")

        await self._change("subscriber.restore", Role.ADMIN, work, {"reason": str(said)})

    async def _erase(self) -> None:
        person = self._person
        content = Markup(
            "<p>Everything about {} is erased. Deliveries stay in the books without anything personal. "
            "This cannot be undone.</p>"
        ).format(person.address)
        if not await confirmed("Erase this person?", content, "Erase permanently", danger=True):
            return
        secret = self._desk.database.secrets()[0]
        await self._desk.change(
            self._visit,
            Role.ADMIN,
            Change("subscriber.erase", str(person.id)),
            lambda connection: erase(
                connection, parse_address(person.address), secret=secret, at=datetime.now(UTC)
            ),
        )
        ui.navigate.to("/subscribers")

    async def _change(
        self,
        act: str,
        needed: Role,
        work: Callable[[Connection], object],
        details: dict[str, object] | None = None,
    ) -> None:
        await self._desk.change(self._visit, needed, Change(act, str(self._person.id), details), work)
        ui.navigate.reload()


def _closing(dialog: ui.dialog) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        dialog.submit("")

    return close


def _timeline(subscriber_id: int, happenings: tuple[Happening, ...]) -> Markup:
    lines = Markup("").join(
        Markup('<li><span class="soft small">{}</span><span class="tag">{}</span><p>{}{}</p></li>').format(
            when(one.at), one.what, one.text[:600], _email(subscriber_id, one)
        )
        for one in reversed(happenings)
    )
    return Markup('<ol class="timeline">{}</ol>').format(lines)


def _email(subscriber_id: int, one: Happening) -> Markup:
    """Return a link to the email, if this is a delivery that was sent."""
    if one.facts.get("state") != DeliveryState.SENT:
        return Markup("")
    slug = quote(str(one.facts["issue"]), safe="")
    return Markup(" ") + link(f"/subscribers/{subscriber_id}/email/{slug}", "See the email")
