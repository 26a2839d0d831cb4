"""Sending an issue: a test, the plan, the schedule, and the confirmation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import available_timezones

from markupsafe import Markup
from msgspec import structs
from nicegui import ui

from mailer.address import parse_address
from mailer.console.approval import Kind, Proposal, Release
from mailer.console.audience_choice import SegmentField
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import button, card, field, say
from mailer.console.markup import facts, issue_path, show
from mailer.console.releasing import let_go, relays, share_of, show_proposal, time_of
from mailer.console.users import Role
from mailer.delivery import editions, requirements
from mailer.delivery import schedule as schedules
from mailer.delivery.schedule import Scheduled
from mailer.errors import RefusedError
from mailer.printable import counted
from mailer.rendering.edition import Edition
from mailer.review import linting, planning, sample
from mailer.review.planning import Forecast
from mailer.review.release import check_release

_TEST_ADDRESSES: Final = 10
_ZONES: Final = Markup('<datalist id="zones">{}</datalist>').format(
    Markup("").join(Markup("<option>{}</option>").format(zone) for zone in sorted(available_timezones()))
)


class Sending:
    """The cards below the editor. `unsaved` says whether the text differs from the file."""

    def __init__(
        self,
        desk: Desk,
        visit: Visit,
        path: Path,
        scheduled: Scheduled | None,
        proposal: Proposal | None,
        *,
        unsaved: Callable[[], bool],
    ) -> None:
        self._desk = desk
        self._visit = visit
        self._path = path
        self._scheduled = scheduled
        self._proposal = proposal
        self._unsaved = unsaved

    def build(self) -> None:
        """Add the cards that this person may use."""
        role = self._visit.visitor.role
        with ui.element("div").classes("split"):
            with card("Audience and plan"):
                segment = self._scheduled.segment if self._scheduled else ""
                self._segment = SegmentField(self._desk, value=segment)
                self._plan = ui.element("div").classes("stack")
                with ui.element("div").classes("actions"):
                    button("Show the plan", self._show_plan)
            if role.may(Role.EDITOR):
                with card("Test"):
                    self._test_to = field("Send a test to", hint="Addresses, separated by spaces.")
                    show(
                        Markup('<p class="soft small">It has [Test] in its subject and links that change '
                               "nothing. It is not recorded.</p>")
                    )  # fmt: skip
                    with ui.element("div").classes("actions"):
                        button("Send the test", self._send_test)
        if self._proposal is not None:
            show_proposal(self._desk, self._visit, self._path, self._proposal, self._ready)
        if role.may(Role.SENDER):
            with card("Send"):
                self._build_send()

    def _build_send(self) -> None:
        if self._scheduled is not None:
            planned = self._scheduled
            when = time_of(planned.due_at, planned.zone, planned.wall)
            missed = " That time has passed, and no worker ran then." if self._scheduled.missed else ""
            show(
                Markup('<div class="note">Scheduled for <b>{}</b>, with the content it had when it was '
                       "scheduled.{}</div>").format(when, missed)
            )  # fmt: skip
        with ui.element("div").classes("fields"):
            self._at = field("Send at").props("type=datetime-local stack-label")
            self._zone = field(
                "Time zone",
                self._scheduled.zone if self._scheduled else "",
                hint="This machine's if empty.",
                list="zones",
                spellcheck="false",
            )
            wall = self._scheduled.wall if self._scheduled else None
            self._everywhere = ui.checkbox(
                "At this time in each subscriber's own time zone", value=wall is not None
            ).classes("whole")
            self._share = field("First to a part of the audience", hint="Such as 1% (canary).").classes(
                "whole"
            )
        show(_ZONES)
        with ui.element("div").classes("actions"):
            button("Schedule", self._schedule)
            button("Send now", self._send, "main")
            if self._scheduled is not None:
                button("Remove the schedule", self._cancel, "danger")

    async def _show_plan(self) -> None:
        await self._desk.check(self._visit, Role.READER)

        def forecast() -> Forecast:
            settings = self._desk.settings
            edition = editions.build(settings, self._path)
            return planning.forecast(settings, self._desk.database, edition, self._segment.segment)

        made = await asyncio.to_thread(forecast)
        left = [(f"Left out: {why}", f"{number:,}") for why, number in made.headcount.left_out.items()]
        top = ", ".join(f"{domain} {number:,}" for domain, number in made.domains.top[:5])
        lines = [
            ("Recipients", f"{made.audience:,} of {counted(made.headcount.subscribers, 'subscriber')}"),
            *left,
            ("Largest domains", top or "–"),
            ("Message size", f"{made.sizes.mean / 1024:,.0f} KB on average"),
            ("Duration", _duration(made)),
        ]
        lines += [("Cannot be composed", error) for error in made.sizes.unfit[:3]]
        self._plan.clear()
        with self._plan:
            show(facts(lines))

    async def _send_test(self) -> None:
        self._refuse_unsaved()
        addresses = [parse_address(text) for text in (self._test_to.value or "").replace(",", " ").split()]
        if not 1 <= len(addresses) <= _TEST_ADDRESSES:
            raise RefusedError(f"Enter one address, or up to {_TEST_ADDRESSES}")

        def send() -> None:
            settings = self._desk.settings
            edition = editions.build(settings, self._path)
            requirements.check_ready(settings)
            reader = linting.sample_reader(edition)
            marked = replace(edition, subject=f"[Test] {edition.subject}")
            for address in addresses:
                sample.send_test(settings, marked, structs.replace(reader, email=str(address)))

        await self._desk.act(self._visit, Role.EDITOR, Change("issue.test", self._path.stem), send)
        say(f"The test went to {', '.join(map(str, addresses))} through {relays(self._desk.settings)}")

    async def _send(self) -> None:
        share = share_of(self._share.value or "")
        edition = await self._ready(self._segment.segment)
        await self._let_go(edition, Release(Kind.SEND, self._segment.segment, share))

    async def _schedule(self) -> None:
        try:
            local = datetime.fromisoformat(self._at.value or "")
        except ValueError:
            raise RefusedError("Enter the day and the time first") from None
        if (self._share.value or "").strip():
            raise RefusedError("A scheduled issue has no canary", remedy="remove the share, or send it now")
        edition = await self._ready(self._segment.segment)
        zone = (self._zone.value or "").strip()
        if zone and zone not in available_timezones():
            raise RefusedError(
                f"There is no time zone '{zone[:40]}'", remedy="write it like Europe/Bucharest"
            )
        due_at, wall = schedules.instant(local, zone), local if self._everywhere.value else None
        wanted = Release(Kind.SCHEDULE, self._segment.segment, due_at=due_at, zone=zone, wall=wall)
        await self._let_go(edition, wanted)

    async def _let_go(self, edition: Edition, wanted: Release) -> None:
        if await let_go(self._desk, self._visit, self._path, edition, wanted):
            ui.navigate.to(issue_path(edition.slug))

    async def _cancel(self) -> None:
        slug = self._path.stem
        await self._desk.change(
            self._visit,
            Role.SENDER,
            Change("issue.unschedule", slug),
            lambda connection: schedules.cancel(connection, slug),
        )
        ui.navigate.to(issue_path(slug))

    async def _ready(self, segment: str) -> Edition:
        """Return the edition if it may be sent: saved, without errors, and complete for its audience."""
        self._refuse_unsaved()

        def checked() -> Edition:
            settings, database = self._desk.settings, self._desk.database
            edition = editions.build(settings, self._path)
            check_release(settings, database, self._path, edition, segment)
            return edition

        await self._desk.check(self._visit, Role.SENDER)
        return await asyncio.to_thread(checked)

    def _refuse_unsaved(self) -> None:
        if self._unsaved():
            raise RefusedError("There are unsaved changes", remedy="save them first")


def _duration(made: Forecast) -> str:
    if made.estimate is None:
        return "unknown: no relay is configured"
    seconds = timedelta(seconds=round(made.estimate.duration.total_seconds()))
    return f"about {seconds}; the tightest limit is {made.estimate.bottleneck}"
