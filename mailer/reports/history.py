"""The history of an address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience.suppression import erased_key
from mailer.database.models import (
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


def story_of(session: Session, address: Address, *, secret: bytes) -> Story | None:
    """Return an address's history like `story`, even if the address has been erased since."""
    return story(session, address.key) or story(session, erased_key(address.key, secret))


def story(session: Session, address_key: str) -> Story | None:
    """Return an address's history in chronological order, or None if nothing is known about it."""
    subscriber = session.scalar(select(Subscriber).where(Subscriber.address_key == address_key))
    suppression = session.get(Suppression, address_key)
    about: ColumnElement[bool] = func.lower(StoredReport.recipient) == address_key
    happenings: list[Happening] = []
    if subscriber is not None:
        about = StoredReport.subscriber_id == subscriber.id
        happenings += _consents(session, subscriber.id)
        happenings += _deliveries(session, subscriber.id)
        happenings += _events(session, subscriber.id)
        happenings += _sequences(session, subscriber.id)
    happenings += (_report(row) for row in session.scalars(select(StoredReport).where(about)))
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


def _soft_bounces(subscriber: Subscriber | None, happenings: Iterable[Happening]) -> Iterator[datetime]:
    """Yield when the soft bounces of the current count happened."""
    since = subscriber.soft_since if subscriber else None
    if since is not None:
        yield from (one.at for one in happenings if one.what == SOFT_BOUNCE and one.at >= since)


def _consents(session: Session, subscriber_id: int) -> Iterator[Happening]:
    rows = session.execute(
        select(Consent, Wording.text)
        .outerjoin(Wording, Wording.version == Consent.form_version)
        .where(Consent.subscriber_id == subscriber_id)
    )
    for line, wording in rows:
        facts = {"before": line.before, "after": line.after, "way": line.way, "ip": line.ip,
                 "form": line.form, "form_version": line.form_version, "wording": wording,
                 "note": line.note}  # fmt: skip
        change = line.after if line.before in ("", line.after) else f"{line.before} → {line.after}"
        yield Happening(line.at, "status", _line(f"{change} by {line.way}", line.note), facts)


def _deliveries(session: Session, subscriber_id: int) -> Iterator[Happening]:
    replaced = select(func.count()).where(ReplacedEdition.issue_id == StoredIssue.id).scalar_subquery()
    rows = session.execute(
        select(Delivery, StoredIssue.slug, StoredIssue.created_at, Run.edition, replaced, CanaryMember.arm)
        .join(StoredIssue, StoredIssue.id == Delivery.issue_id)
        .outerjoin(Run, Run.id == Delivery.run_id)
        .outerjoin(
            CanaryMember,
            (CanaryMember.issue_id == Delivery.issue_id)
            & (CanaryMember.subscriber_id == Delivery.subscriber_id),
        )
        .where(Delivery.subscriber_id == subscriber_id)
    )
    for delivery, slug, created_at, edition, amendments, arm in rows:
        said = " ".join(str(part) for part in (delivery.code, delivery.enhanced, delivery.reply) if part)
        facts = {"issue": slug, "state": delivery.state, "edition": edition, "attempts": delivery.attempts,
                 "code": delivery.code, "enhanced": delivery.enhanced, "reply": delivery.reply,
                 "class": delivery.bounce_class, "arm": None if arm is None else "ABCD"[arm]}  # fmt: skip
        at = delivery.changed_at or delivery.first_at or created_at
        which = f" (edition {edition} of {amendments + 1})" if amendments and edition else ""
        which += "" if arm is None else f" (arm {facts['arm']})"
        yield Happening(at, "delivery", _line(f"{slug}: {delivery.state}{which}", said), facts)


def _events(session: Session, subscriber_id: int) -> Iterator[Happening]:
    rows = session.execute(
        select(Event, StoredIssue.slug, StoredIssue.edition_digest)
        .outerjoin(StoredIssue, StoredIssue.id == Event.issue_id)
        .where(Event.subscriber_id == subscriber_id)
    ).all()
    clicked = {digest for event, _, digest in rows if digest and "link" in event.details}
    links = {digest: links_of(session, digest) for digest in clicked}
    for event, slug, digest in rows:
        facts = {"issue_id": event.issue_id, **event.details}
        shown = dict(event.details)
        if (address := _address(shown.get("link"), links.get(digest, ()))) is not None:
            shown["link"] = facts["url"] = address
        said = ", ".join(f"{name} {value}" for name, value in sorted(shown.items()))
        yield Happening(event.at, event.kind, _line(slug, said) if slug else said, facts)


def _address(place: object, links: Sequence[str]) -> str | None:
    """Return the address of the link with this number, or None."""
    return links[place] if isinstance(place, int) and 0 <= place < len(links) else None


def _sequences(session: Session, subscriber_id: int) -> Iterator[Happening]:
    rows = session.execute(
        select(SequenceMember, StoredSequence.name, SequenceStep.name)
        .join(StoredSequence, StoredSequence.id == SequenceMember.sequence_id)
        .outerjoin(SequenceStep, SequenceStep.id == SequenceMember.next_step_id)
        .where(SequenceMember.subscriber_id == subscriber_id, SequenceMember.why != "before")
    )
    for member, name, step in rows:
        facts = {
            "sequence": name,
            "next": step,
            "due_at": member.due_at and member.due_at.isoformat(),
            "why": member.why,
        }
        due = f"; {step} is due from {member.due_at:%Y-%m-%d %H:%M} UTC" if step and member.due_at else ""
        yield Happening(member.entered_at, "sequence", f"{name}: entered{due}", facts)
        if member.ended_at is not None:
            yield Happening(member.ended_at, "sequence", f"{name}: {member.why}", facts)


def _report(stored: StoredReport) -> Happening:
    facts = {"report": stored.id, "source": stored.source, "kind": stored.kind, "outcome": stored.outcome,
             "class": stored.bounce_class, "hard": stored.hard, **stored.details}  # fmt: skip
    judged = f"{stored.kind} {stored.bounce_class or ''}".strip()
    text = _line(f"{judged}, {stored.outcome} (report {stored.id})", str(stored.details.get("text", "")))
    return Happening(stored.received_at, "report", text, facts)


def _line(first: str, rest: str) -> str:
    return f"{first}: {rest}" if rest else first
