"""Subscribers: search, segments, and the export."""

from __future__ import annotations

import json
from typing import Final, TextIO
from urllib.parse import urlencode

from fastapi import FastAPI
from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from mailer.audience.segments import parse_segment
from mailer.audience.subscribers import SubscriberView
from mailer.audience.transfer import exporting
from mailer.config import Settings
from mailer.console.audience_choice import EXAMPLES
from mailer.console.desk import Change, Desk, Visit
from mailer.console.downloads import download
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import note, person, show, table, tag, when
from mailer.console.users import Role
from mailer.database.tables import SubscriberStatus
from mailer.errors import MailerError
from mailer.printable import whole_number

_PAGE: Final = 50
_FORM: Final = Markup("""<form method="get" action="/subscribers" class="search" role="search">
<label>Name or address<input name="q" value="{q}" maxlength="200"></label>
<label>Segment<input name="where" value="{where}" maxlength="1000" list="segments" spellcheck="false"></label>
<label>Status<select name="status"><option value="">any</option>{statuses}</select></label>
<button>Search</button></form>
<datalist id="segments">{saved}</datalist><p class="soft small">{examples}</p>""")


def add_pages(desk: Desk) -> None:
    """Add the list of subscribers."""

    async def build(visit: Visit, request: Request) -> None:
        settings = desk.settings
        asked = {key: request.query_params.get(key, "").strip() for key in ("q", "where", "status", "after")}
        with heading("Subscribers"):
            if visit.visitor.role.may(Role.SENDER):
                ui.link("Import", "/subscribers/import")
            if visit.visitor.role.may(Role.ADMIN):
                ui.link("Export as CSV", f"/export.csv?{urlencode(asked)}")
        with card():
            show(_form(settings, asked))
            try:
                await _show_found(desk, settings, asked)
            except MailerError as error:
                show(note(error.message, "bad", error.remedy or ""))

    add_page(desk, "/subscribers", "Subscribers", build)


async def _show_found(desk: Desk, settings: Settings, asked: dict[str, str]) -> None:
    if asked["where"]:
        # By itself first, so that an error names a column of what the person wrote.
        parse_segment(asked["where"], settings.segments)
    written = segment_of(asked)
    condition = parse_segment(written, settings.segments).condition if written else None
    after = whole_number(asked["after"]) or 0
    total = await desk.read(lambda connection: exporting.count(connection, condition))
    found = await desk.read(
        lambda connection: exporting.views(connection, condition, after=after, limit=_PAGE + 1)
    )
    show(
        Markup('<p role="status"><b>{}</b> {}</p>').format(f"{total:,}", "person" if total == 1 else "people")
    )
    show(_table(found[:_PAGE]))
    if len(found) > _PAGE:
        following = urlencode(asked | {"after": str(found[_PAGE - 1].id)})
        show(Markup('<p><a href="/subscribers?{}">Next page</a></p>').format(following))


def segment_of(asked: dict[str, str]) -> str:
    """Return the segment that a search means."""
    parts = []
    if asked.get("q"):
        text = json.dumps(asked["q"], ensure_ascii=False)
        parts.append(f"(email ~ {text} or name ~ {text})")
    if asked.get("where"):
        parts.append(f"({asked['where']})")
    if asked.get("status") in list(SubscriberStatus):
        parts.append(f"status:{asked['status']}")
    return " and ".join(parts)


def _form(settings: Settings, asked: dict[str, str]) -> Markup:
    statuses = Markup("").join(
        Markup("<option{}>{}</option>").format(
            Markup(" selected") if asked["status"] == one else "", one.value
        )
        for one in SubscriberStatus
        if one is not SubscriberStatus.ERASED
    )
    saved = Markup("").join(
        Markup('<option value="@{}"></option>').format(name) for name in settings.segments
    )
    return _FORM.format(q=asked["q"], where=asked["where"], statuses=statuses, saved=saved, examples=EXAMPLES)


def _table(found: list[SubscriberView]) -> Markup:
    if not found:
        return Markup('<p class="empty">Nobody matches.</p>')
    return table(
        ("*Address", "Name", "@Status", "Tags", "@Joined"),
        [
            (
                person(one.id, one.address),
                one.name,
                tag(one.status),
                Markup(" ").join(map(tag, one.tags)),
                when(one.created_at)[:10],
            )
            for one in found
        ],
        wide=(1, 3, 4),
    )


def add_routes(desk: Desk, app: FastAPI) -> None:
    """Add the download of the export."""

    async def export(request: Request) -> Response:
        written = segment_of({key: request.query_params.get(key, "") for key in ("q", "where", "status")})

        def write(connection: Connection, target: TextIO) -> None:
            condition = parse_segment(written, desk.settings.segments).condition if written else None
            exporting.write_csv(connection, target, condition)

        return await download(desk, request, Change("subscribers.export", written), "subscribers.csv", write)

    app.add_api_route("/export.csv", export, methods=["GET"], response_model=None)
