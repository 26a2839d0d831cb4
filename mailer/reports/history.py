"""The history of an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, select

from mailer.address import Address
from mailer.audience.suppression import erased_key
from mailer.database.tables import (
    SOFT_BOUNCE,
    CanaryMember,
    Consent,
    Delivery,
    Event,
    ReplacedEdition,
    Run,
    SequenceMember,
    SequenceStep,
    StoredIssue,
    StoredReport,
    StoredSequence,
    Subscriber,
    Suppression,
    TableRow,
    Wording,
)
from mailer.reports.alerts import Happening
from mailer.reports.links import links_of


@dataclass(frozen=True, slots=True)
class Story:
    """The history of an address, and whether it may be emailed."""

    address: str
    status: str
    """The subscriber's status; empty if there is no subscriber."""
    suppressed: str
    """The reason for the suppression, or empty."""
    soft_points: float
    """As of the last soft bounce; see `soft_points_at`."""
    soft_last: datetime | None
    """When the last of the counted soft bounces happened."""
    paused_until: datetime | None
    happenings: tuple[Happening, ...]

    def soft_points_at(self, at: datetime, quiet_days: int) -> float:
        """Return the soft bounce points that count at an instant: none after `quiet_days` without one."""
        quiet = self.soft_last is None or at - self.soft_last > timedelta(days=quiet_days)
        return 0.0 if quiet else self.soft_points


def story_of(connection: Connection, address: Address, *, secret: bytes) -> Story | None:
    """Return an address's history like `story`, even if the address has been erased since."""
    return story(connection, address.key) or story(connection, erased_key(address.key, secret))


def story(connection: Connection, address_key: str) -> Story | None:
    """Return an address's history in chronological order, or None if nothing is known about it."""
    subscriber = connection.execute(
        select(Subscriber).where(Subscriber.c.address_key == address_key)
    ).one_or_none()
    suppression = connection.execute(
        select(Suppression).where(Suppression.c.address_key == address_key)
    ).one_or_none()
    about: ColumnElement[bool] = func.lower(StoredReport.c.recipient) == address_key
    happenings: list[Happening] = []
    if subscriber is not None:
        about = StoredReport.c.subscriber_id == subscriber.id
        happenings += _consents(connection, subscriber.id)
        happenings += _deliveries(connection, subscriber.id)
        happenings += _events(connection, subscriber.id)
        happenings += _sequences(connection, subscriber.id)
    happenings += (_report(row) for row in connection.execute(select(*_REPORT).where(about)))
    if suppression is not None:
        happenings.append(
            Happening(
                suppression.at,
                "suppressed",
                _line(suppression.reason, suppression.note),
                {"reason": suppression.reason, "report": suppression.report_id},
            )
        )
    if subscriber is None and not happenings:
        return None
    return Story(
        address=subscriber.address if subscriber else address_key,
        status=subscriber.status if subscriber else "",
        suppressed=suppression.reason if suppression else "",
        soft_points=subscriber.soft_points if subscriber else 0.0,
        soft_last=max(_soft_bounces(subscriber, happenings), default=None),
        paused_until=subscriber.paused_until if subscriber else None,
        happenings=tuple(sorted(happenings, key=lambda happening: happening.at)),
    )


def _soft_bounces(subscriber: TableRow | None, happenings: Iterable[Happening]) -> Iterator[datetime]:
    """Yield when the soft bounces of the current count happened."""
    since = subscriber.soft_since if subscriber else None
    if since is not None:
        yield from (one.at for one in happenings if one.what == SOFT_BOUNCE and one.at >= since)


def _consents(connection: Connection, subscriber_id: int) -> Iterator[Happening]:
    rows = connection.execute(
        select(Consent, Wording.c.text.label("wording"))
        .outerjoin(Wording, Wording.c.version == Consent.c.form_version)
        .where(Consent.c.subscriber_id == subscriber_id)
    )
    for line in rows:
        facts = {"before": line.before, "after": line.after, "way": line.way, "ip": line.ip,
                 "form": line.form, "form_version": line.form_version, "wording": line.wording,
                 "note": line.note}  # fmt: skip
        change = line.after if line.before in ("", line.after) else f"{line.before} → {line.after}"
        yield Happening(line.at, "status", _line(f"{change} by {line.way}", line.note), facts)


def _deliveries(connection: Connection, subscriber_id: int) -> Iterator[Happening]:
    replaced = select(func.count()).where(ReplacedEdition.c.issue_id == StoredIssue.c.id).scalar_subquery()
    rows = connection.execute(
        select(
            Delivery,
            StoredIssue.c.slug,
            StoredIssue.c.created_at,
            Run.c.edition,
            replaced.label("amendments"),
            CanaryMember.c.arm,
        )
        .join(StoredIssue, StoredIssue.c.id == Delivery.c.issue_id)
        .outerjoin(Run, Run.c.id == Delivery.c.run_id)
        .outerjoin(
            CanaryMember,
            (CanaryMember.c.issue_id == Delivery.c.issue_id)
            & (CanaryMember.c.subscriber_id == Delivery.c.subscriber_id),
        )
        .where(Delivery.c.subscriber_id == subscriber_id)
    )
    for row in rows:
        said = " ".join(str(part) for part in (row.code, row.enhanced, row.reply) if part)
        facts = {"issue": row.slug, "state": row.state, "edition": row.edition, "attempts": row.attempts,
                 "code": row.code, "enhanced": row.enhanced, "reply": row.reply,
                 "class": row.bounce_class, "arm": None if row.arm is None else "ABCD"[row.arm]}  # fmt: skip
        at = row.changed_at or row.first_at or row.created_at
        amended = row.amendments and row.edition
        which = f" (edition {row.edition} of {row.amendments + 1})" if amended else ""
        which += "" if row.arm is None else f" (arm {facts['arm']})"
        yield Happening(at, "delivery", _line(f"{row.slug}: {row.state}{which}", said), facts)


def _events(connection: Connection, subscriber_id: int) -> Iterator[Happening]:
    rows = connection.execute(
        select(Event, StoredIssue.c.slug, StoredIssue.c.edition_digest)
        .outerjoin(StoredIssue, StoredIssue.c.id == Event.c.issue_id)
        .where(Event.c.subscriber_id == subscriber_id)
    ).all()
    clicked = {row.edition_digest for row in rows if row.edition_digest and "link" in row.details}
    links = {digest: links_of(connection, digest) for digest in clicked}
    for row in rows:
        facts = {"issue_id": row.issue_id, **row.details}
        shown = dict(row.details)
        if (address := _address(shown.get("link"), links.get(row.edition_digest, ()))) is not None:
            shown["link"] = facts["url"] = address
        said = ", ".join(f"{name} {value}" for name, value in sorted(shown.items()))
        yield Happening(row.at, row.kind, _line(row.slug, said) if row.slug else said, facts)


def _address(place: object, links: Sequence[str]) -> str | None:
    """Return the address of the link with this number, or None."""
    return links[place] if isinstance(place, int) and 0 <= place < len(links) else None


def _sequences(connection: Connection, subscriber_id: int) -> Iterator[Happening]:
    rows = connection.execute(
        select(SequenceMember, StoredSequence.c.name, SequenceStep.c.name.label("step"))
        .join(StoredSequence, StoredSequence.c.id == SequenceMember.c.sequence_id)
        .outerjoin(SequenceStep, SequenceStep.c.id == SequenceMember.c.next_step_id)
        .where(SequenceMember.c.subscriber_id == subscriber_id, SequenceMember.c.why != "before")
    )
    for row in rows:
        facts = {
            "sequence": row.name,
            "next": row.step,
            "due_at": row.due_at and row.due_at.isoformat(),
            "why": row.why,
        }
        due = f"; {row.step} is due from {row.due_at:%Y-%m-%d %H:%M} UTC" if row.step and row.due_at else ""
        yield Happening(row.entered_at, "sequence", f"{row.name}: entered{due}", facts)
        if row.ended_at is not None:
            yield Happening(row.ended_at, "sequence", f"{row.name}: {row.why}", facts)


_REPORT: Final = (
    StoredReport.c.id,
    StoredReport.c.received_at,
    StoredReport.c.source,
    StoredReport.c.kind,
    StoredReport.c.outcome,
    StoredReport.c.bounce_class,
    StoredReport.c.hard,
    StoredReport.c.details,
)


def _report(stored: TableRow) -> Happening:
    facts = {"report": stored.id, "source": stored.source, "kind": stored.kind, "outcome": stored.outcome,
             "class": stored.bounce_class, "hard": stored.hard, **stored.details}  # fmt: skip
    judged = f"{stored.kind} {stored.bounce_class or ''}".strip()
    text = _line(f"{judged}, {stored.outcome} (report {stored.id})", str(stored.details.get("text", "")))
    return Happening(stored.received_at, "report", text, facts)


def _line(first: str, rest: str) -> str:
    return f"{first}: {rest}" if rest else first
