"""Letting an issue go: now, at a time, or as a correction; immediately or with a second person's approval."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

from markupsafe import Markup
from nicegui import ui
from sqlalchemy import Connection

from mailer.config import Settings, parse_share
from mailer.console import approval
from mailer.console.approval import Kind, Proposal, Release
from mailer.console.desk import Change, Desk, Visit
from mailer.console.frame import button, card, confirmed
from mailer.console.markup import facts, issue_path, show, when
from mailer.console.users import Role
from mailer.database.engine import Database
from mailer.delivery import amending, enqueueing, issues, local_time
from mailer.delivery import schedule as schedules
from mailer.delivery.issues import QueuedIssue
from mailer.delivery.lock import exclusive
from mailer.delivery.schedule import Scheduled
from mailer.errors import RefusedError
from mailer.printable import counted
from mailer.rendering.edition import Edition
from mailer.review import planning

_ACTS: Final = {
    Kind.SEND: ("Send this issue?", "Send now", "issue.send"),
    Kind.SCHEDULE: ("Schedule this issue?", "Schedule", "issue.schedule"),
    Kind.AMEND: ("Send the corrected issue to the others?", "Send the correction", "issue.amend"),
}


async def let_go(desk: Desk, visit: Visit, path: Path, edition: Edition, wanted: Release) -> bool:
    """Do it once the person has confirmed, or propose it to a second one; return whether anything changed."""
    title, action, act = _ACTS[wanted.kind]
    asks = desk.settings.console.approval
    content = await asyncio.to_thread(_summary, desk, edition, wanted)
    if not await confirmed(title, content, "Ask for approval" if asks else action):
        return False
    details = {"edition": edition.digest, **_details(wanted)}
    if asks:
        await desk.change(
            visit,
            Role.SENDER,
            Change("issue.propose", edition.slug, {"to": wanted.kind.value, **details}),
            lambda connection: approval.propose(
                connection, edition, wanted, visit.visitor.name, at=datetime.now(UTC)
            ),
        )
        return True
    await desk.act(
        visit,
        Role.SENDER,
        Change(act, edition.slug, details),
        lambda: release(desk.settings, desk.database, path, edition, wanted),
    )
    return True


async def approve(desk: Desk, visit: Visit, path: Path, edition: Edition, proposal: Proposal) -> bool:
    """Do what someone else proposed, once this person has confirmed it; return whether it was done."""
    if proposal.who == visit.visitor.name:
        raise RefusedError("Someone else must approve this: you proposed it")
    if not proposal.covers(edition):
        raise RefusedError("The issue has changed since this was proposed", remedy="propose it again")
    title, action, _ = _ACTS[proposal.release.kind]
    content = await asyncio.to_thread(_summary, desk, edition, proposal.release)
    if not await confirmed(title, content, f"Approve: {action[:1].lower()}{action[1:]}"):
        return False
    change = Change(
        "issue.approve", edition.slug, {"proposed by": proposal.who, **_details(proposal.release)}
    )
    await desk.act(
        visit,
        Role.SENDER,
        change,
        lambda: release(
            desk.settings,
            desk.database,
            path,
            edition,
            proposal.release,
            first=lambda connection: approval.approve(connection, proposal, visit.visitor.name),
        ),
    )
    return True


def show_proposal(
    desk: Desk, visit: Visit, path: Path, proposal: Proposal, ready: Callable[[str], Awaitable[Edition]]
) -> None:
    """Add the card of a proposal. `ready` checks the issue for an audience and returns its edition."""
    own = proposal.who == visit.visitor.name
    what = {
        Kind.SEND: "send this issue",
        Kind.SCHEDULE: "schedule this issue",
        Kind.AMEND: "send a correction of this issue",
    }[proposal.release.kind]

    async def agree() -> None:
        edition = await ready(proposal.release.segment)
        if await approve(desk, visit, path, edition, proposal):
            ui.navigate.to(issue_path(proposal.slug))

    async def withdraw() -> None:
        change = Change("issue.withdraw_proposal" if own else "issue.decline", proposal.slug)
        await desk.change(
            visit, Role.SENDER, change, lambda connection: approval.withdraw(connection, proposal.slug)
        )
        ui.navigate.reload()

    with card("Waiting for approval"):
        show(Markup("<p><b>{}</b> asked at {} to {}.</p>").format(proposal.who, when(proposal.at), what))
        show(facts(_terms(desk.settings, proposal.release)))
        if own:
            show(Markup('<p class="soft">Someone else must approve it.</p>'))
        if visit.visitor.role.may(Role.SENDER):
            with ui.element("div").classes("actions"):
                if own:
                    button("Withdraw the request", withdraw)
                else:
                    button("Approve", agree, "main")
                    button("Decline", withdraw, "danger")


def share_of(text: str) -> float | None:
    """Return the share that a person has typed, such as `1%`; None if they typed nothing."""
    if not text.strip():
        return None
    try:
        share = parse_share(text)
    except ValueError:
        share = None
    if not isinstance(share, float) or not 0 < share < 1:
        raise RefusedError("Write the first part as a share of the audience, for example 1%")
    return share


def relays(settings: Settings) -> str:
    """Return the names of the relays, or of the outbox."""
    names = ", ".join(f"{name} ({relay.host})" for name, relay in settings.relays.items())
    return names or "the outbox on this machine"


def release(
    settings: Settings,
    database: Database,
    path: Path,
    edition: Edition,
    wanted: Release,
    *,
    first: Callable[[Connection], object] = lambda connection: None,
) -> None:
    """Queue, schedule or amend an issue; `first` is done in the same transaction."""
    at = datetime.now(UTC)
    match wanted.kind:
        case Kind.SEND if settings.delivery.undo and wanted.share is None:
            with database.transaction() as connection:
                first(connection)
                schedules.add_with_undo(
                    connection,
                    edition,
                    source_path=str(path),
                    segment=wanted.segment,
                    at=at,
                    wait=settings.delivery.undo,
                )
        case Kind.SEND:

            def once(connection: Connection, queued: QueuedIssue) -> None:
                if queued.created_at != at:
                    raise RefusedError(f"{queued.slug} is queued already", remedy="reload the page")
                first(connection)

            enqueueing.enqueue(
                settings, database, edition, path, wanted.segment, at=at, canary_share=wanted.share, also=once
            )
        case Kind.SCHEDULE:
            assert wanted.due_at is not None
            with database.transaction() as connection:
                first(connection)
                _schedule(settings, connection, path, edition, wanted, wanted.due_at, at=at)
        case Kind.AMEND:
            with exclusive(database) as connection:
                first(connection)
                queued = issues.named(connection, edition.slug)
                amending.amend(connection, queued.id, edition, source_path=str(path), at=at)
        case _:
            assert_never(wanted.kind)


def _schedule(
    settings: Settings,
    connection: Connection,
    path: Path,
    edition: Edition,
    wanted: Release,
    due_at: datetime,
    *,
    at: datetime,
) -> None:
    source, segment, zone = str(path), wanted.segment, wanted.zone
    if wanted.wall is None:
        schedules.add(
            connection, edition, source_path=source, segment=segment, due_at=due_at, zone=zone, at=at
        )
        return
    condition = enqueueing.audience_condition(settings, segment)
    local_time.add(
        connection, edition, source_path=source, segment=segment, wall=wanted.wall, zone=zone, at=at,
        condition=condition,
    )  # fmt: skip


def _summary(desk: Desk, edition: Edition, wanted: Release) -> Markup:
    """Return the text of the confirmation, which says exactly what would happen."""
    if wanted.kind is Kind.AMEND:
        with desk.database.reading() as connection:
            left = amending.left(connection, issues.named(connection, edition.slug).id)
        verb = "doesn't" if left == 1 else "don't"
        who = f"{counted(left, 'subscriber')} who {verb} have it yet"
    else:
        plan = planning.plan(desk.settings, desk.database, edition, wanted.segment)
        who = f"{counted(plan.audience, 'subscriber')} ({wanted.segment or 'everyone'})"
    subjects = [edition.subject, *(arm.subject for arm in edition.arms)]
    pairs = [
        ("Subject", " / ".join(dict.fromkeys(subjects))),
        ("To", who),
        ("Through", relays(desk.settings)),
    ]
    return facts([*pairs, *(pair for pair in _terms(desk.settings, wanted) if pair[0] != "Audience")])


def _terms(settings: Settings, wanted: Release) -> list[tuple[str, str]]:
    """Return the audience and the time of a release, in words."""
    if wanted.kind is Kind.AMEND:
        return [("When", "once the issue is resumed")]
    undo = settings.delivery.undo if wanted.share is None else None
    time = f"in {undo}; until then you can undo it by removing the schedule" if undo else "now"
    pairs = [("Audience", wanted.segment or "everyone"), ("When", time)]
    if wanted.due_at is not None:
        pairs[1] = ("When", time_of(wanted.due_at, wanted.zone, wanted.wall))
    if wanted.share is not None:
        pairs.append(("First part", f"{wanted.share:.2%}; the others follow if all is well"))
    return pairs


def time_of(due_at: datetime, zone: str, wall: datetime | None) -> str:
    """Return when an issue is sent, in words."""
    if wall is not None:
        return f"{wall:%A, %Y-%m-%d %H:%M}, each subscriber's local time"
    return f"{Scheduled('', '', due_at, zone, missed=False).local:%A, %Y-%m-%d %H:%M %Z}"


def _details(wanted: Release) -> dict[str, object]:
    found: dict[str, object] = {"segment": wanted.segment}
    if wanted.share is not None:
        found["first part"] = wanted.share
    if wanted.due_at is not None:
        found["due"] = wanted.due_at.isoformat()
    if wanted.wall is not None:
        found["local time"] = wanted.wall.isoformat()
    return found
