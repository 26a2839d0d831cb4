"""People who opted out at another service: an import records them, so that no later import adds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience.ledger import enrol, move
from mailer.audience.transitions import OUT, PERSONAL_WAYS, Enrolment, Move, Origin
from mailer.database.models import Consent, Subscriber, SubscriberStatus

_ACTIVE: Final = SubscriberStatus.ACTIVE.value


@dataclass(frozen=True, slots=True)
class OptOut:
    """What a file says of one person: `status` is one of `OUT`, `note` how the file puts it.

    `at` is since when, or None if the file does not tell.
    """

    address: Address
    status: SubscriberStatus
    note: str
    at: datetime | None


@dataclass(slots=True)
class RecordedOptOuts:
    """What became of opt-outs."""

    new: list[OptOut] = field(default_factory=list)
    """Unknown until now: subscribers who are out from the start."""
    taken_off: list[OptOut] = field(default_factory=list)
    """Active until now, and nobody but others ever said that they agreed."""
    left_alone: int = 0
    """Signed up here themselves, since then or at an unknown distance from it; or are to confirm."""
    kept_out: int = 0
    """Were out already."""
    withdrawn: int = 0
    """Those of `new` whom another row of the same import had added."""


def record_opt_outs(
    session: Session,
    opt_outs: Mapping[str, OptOut],
    *,
    barred: Callable[[Sequence[str]], set[str]],
    import_id: int,
    newest_before: int,
    at: datetime,
) -> RecordedOptOuts:
    """Record the opt-outs of an import, by address key, in a fixed number of statements.

    Nobody is brought back. People who signed up here themselves stay unless the opt-out is later.
    `barred` returns which of some addresses are suppressed or erased. Subscribers above
    `newest_before` who have no line in the ledger yet were added by this same import.
    """
    found = {
        row.address_key: row
        for row in session.execute(
            select(Subscriber.id, Subscriber.address_key, Subscriber.status)
            .where(Subscriber.address_key.in_(opt_outs))
            .order_by(Subscriber.id)
            .with_for_update()
        )
    }
    signed_up_at = _ledgers(session, [row.id for row in found.values()])
    kept_out = barred([key for key in opt_outs if key not in found])
    done = RecordedOptOuts(kept_out=len(kept_out))
    moves: list[Move] = []
    withdrawn: list[int] = []
    for key, row in found.items():
        opt_out = opt_outs[key]
        status = SubscriberStatus(row.status)
        origin = Origin("import", note=opt_out.note, import_id=import_id)
        if status in OUT:
            done.kept_out += 1
            # What was said there outlasts a bounce here, which the operator can lift.
            to = opt_out.status if status is SubscriberStatus.BOUNCED else status
            moves.append(Move(row.id, to, origin, at))
        elif row.id not in signed_up_at and row.id > newest_before:
            done.withdrawn += 1
            withdrawn.append(row.id)
            done.new.append(opt_out)
        elif status is SubscriberStatus.PENDING or _came_after(signed_up_at.get(row.id), opt_out):
            done.left_alone += 1
        elif status is SubscriberStatus.ACTIVE:
            done.taken_off.append(opt_out)
            moves.append(Move(row.id, opt_out.status, origin, at))
    move(session, moves)
    if withdrawn:
        session.execute(delete(Subscriber).where(Subscriber.id.in_(withdrawn)))
    done.new += [one for key, one in opt_outs.items() if key not in found and key not in kept_out]
    enrol(
        session,
        [
            Enrolment(one.address, one.status, Origin("import", note=one.note, import_id=import_id))
            for one in done.new
        ],
        at=at,
    )
    return done


def _came_after(signed_up_at: datetime | None, opt_out: OptOut) -> bool:
    if signed_up_at is None:
        return False
    return opt_out.at is None or signed_up_at >= opt_out.at


def _ledgers(session: Session, ids: Sequence[int]) -> dict[int, datetime | None]:
    """Return when each of some thousand subscribers last signed up themselves.

    None for those who never did; nothing for those without a line in the ledger.
    """
    found: dict[int, datetime | None] = {}
    if not ids:
        return found
    columns = (Consent.subscriber_id, Consent.at, Consent.before, Consent.after, Consent.way)
    for line in session.execute(select(*columns).where(Consent.subscriber_id.in_(ids)).order_by(Consent.id)):
        found.setdefault(line.subscriber_id, None)
        # A change of preferences is a line of the person's too, and no consent.
        if line.way in PERSONAL_WAYS and line.after == _ACTIVE and line.before != line.after:
            found[line.subscriber_id] = line.at
    return found
