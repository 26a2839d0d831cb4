"""The settings with their origins, and the audit log. Both are read only."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from markupsafe import Markup
from nicegui import ui
from starlette.requests import Request

from mailer.config import flatten
from mailer.console import audit
from mailer.console.desk import Desk, Visit
from mailer.console.frame import add_page, card, heading
from mailer.console.markup import note, show, table, when
from mailer.console.users import Role, users
from mailer.review import readiness

_WORDS: Final = {"": "–", "True": "true", "False": "false"}
"""How values are written that Python writes otherwise."""


def add_pages(desk: Desk) -> None:
    """Add the settings and the audit log."""

    async def settings_page(visit: Visit, request: Request) -> None:
        settings = desk.settings
        with heading("Settings"):
            ui.link("Your passkeys", "/settings/passkeys")
            if visit.visitor.role.may(Role.ADMIN):
                ui.link("API and webhooks", "/settings/access")
        show(Markup('<p class="soft">Change them in {}. Passwords and secrets are hidden.</p>').format(
            desk.config_path.name
        ))  # fmt: skip
        for problem in readiness.problems(settings):
            tone = "bad" if problem.stops else "warn"
            show(note(str(problem), tone, problem.remedy or ""))
        known = await desk.read(users)
        with card("Users"):
            rows = [(one.name, one.role, when(one.created_at)[:10]) for one in known]
            show(
                table(("Name", "Role", "@Since"), rows)
                if rows
                else Markup('<p class="soft">Only this machine. To add people: mailer users add</p>')
            )
        for section, pairs in _sections(flatten(settings)):
            with card(section):
                show(
                    table(
                        ("@Key", "*Value", "@From"),
                        [
                            (key, _WORDS.get(value, value), settings.origin(f"{section}.{key}"))
                            for key, value in pairs
                        ],
                        wide=(2,),
                        stacked=True,
                    )
                )

    add_page(desk, "/settings", "Settings", settings_page)
    _add_log(desk)


def _add_log(desk: Desk) -> None:
    async def log(visit: Visit, request: Request) -> None:
        found = await desk.read(lambda connection: audit.entries(connection, limit=200))
        heading("Audit log")
        with card():
            rows = [
                (
                    when(one.at),
                    one.who,
                    one.act,
                    one.about,
                    ", ".join(f"{k}: {v}" for k, v in one.details.items() if v not in ("", None)),
                )
                for one in found
            ]
            show(
                table(("@Time", "@Who", "@Act", "About", "Details"), rows, stacked=True)
                if rows
                else Markup('<p class="empty">Nobody has done anything yet.</p>')
            )

    add_page(desk, "/audit", "Audit log", log, Role.ADMIN)


def _sections(values: dict[str, str]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    """Yield the sections with their keys and values."""
    for section, pairs in groupby(values.items(), key=lambda item: item[0].partition(".")[0]):
        yield section, [(key.partition(".")[2] or key, value) for key, value in pairs]
