"""Who opted out at another service: an import brings the word along, so that no later one forgets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from mailer.address import Address
from mailer.audience.subscribers import OUT, PERSONAL_WAYS, SUPPRESSES, TRANSITIONS
from mailer.database.models import Consent, Subscriber, SubscriberStatus, Suppression

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
class Recorded:
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


@dataclass(slots=True)
class _Past:
    signed_up_at: datetime | None = None
    last_import_id: int | None = None
    """The import that wrote the last line, if one did and no later import only agreed with it."""


def record_opt_outs(
    session: Session,
    opt_outs: Mapping[str, OptOut],
    *,
    barred: Callable[[Sequence[str]], set[str]],
    import_id: int,
    newest_before: int,
    at: datetime,
) -> Recorded:
    """Write the opt-outs of an import, by case-folded address, in a handful of statements.

    Nobody is brought back, and whoever signed up here is left alone unless the opt-out is later.
    `barred` returns those of some addresses that are suppressed or erased. Subscribers above
    `newest_before` who have no line in the ledger yet were added by this same import.
    """
    found = {
        row.address_key: row
        for row in session.execute(
            select(Subscriber.id, Subscriber.address_key, Subscriber.status)
            .where(Subscriber.address_key.in_(opt_outs))
            .with_for_update()
        )
    }
    pasts = _pasts(session, [row.id for row in found.values()])
    kept_out = barred([key for key in opt_outs if key not in found])
    done = Recorded(kept_out=len(kept_out))
    unknown = [opt_out for key, opt_out in opt_outs.items() if key not in found and key not in kept_out]
    # Whom, from where, and what the file says.
    moves: list[tuple[int, str, OptOut]] = []
    lines: list[dict[str, Any]] = []
    for key, row in found.items():
        opt_out, past = opt_outs[key], pasts.get(row.id)
        before = SubscriberStatus(row.status)
        if before in OUT:
            done.kept_out += 1
            if past is not None and past.last_import_id not in (None, import_id):
                lines.append(_line(row.id, row.status, row.status, opt_out.note, import_id, at))
        elif past is None and row.id > newest_before:
            done.withdrawn += 1
            done.new.append(opt_out)
            moves.append((row.id, "", opt_out))
        elif before is SubscriberStatus.PENDING or _came_after(past, opt_out):
            done.left_alone += 1
        elif TRANSITIONS.get((before, opt_out.status)) is False:
            done.taken_off.append(opt_out)
            moves.append((row.id, row.status, opt_out))
    _move(session, moves, at)
    done.new += unknown
    moves += [(number, "", opt_outs[key]) for number, key in _add(session, unknown, at)]
    lines += [_line(number, before, one.status, one.note, import_id, at) for number, before, one in moves]
    if lines:
        session.execute(insert(Consent), lines)
    _suppress(session, [opt_out for _, _, opt_out in moves], import_id, at)
    return done


def _came_after(past: _Past | None, opt_out: OptOut) -> bool:
    if past is None or past.signed_up_at is None:
        return False
    return opt_out.at is None or past.signed_up_at >= opt_out.at


def _pasts(session: Session, ids: Sequence[int]) -> dict[int, _Past]:
    """Return what the ledger says of some thousand subscribers."""
    pasts: dict[int, _Past] = {}
    if not ids:
        return pasts
    columns = (
        Consent.subscriber_id,
        Consent.at,
        Consent.before,
        Consent.after,
        Consent.way,
        Consent.import_id,
    )
    for line in session.execute(select(*columns).where(Consent.subscriber_id.in_(ids)).order_by(Consent.id)):
        past = pasts.setdefault(line.subscriber_id, _Past())
        agrees = line.before == line.after
        past.last_import_id = None if agrees else line.import_id
        # A change of preferences is a line of the person's too, and no consent.
        if line.way in PERSONAL_WAYS and line.after == _ACTIVE and not agrees:
            past.signed_up_at = line.at
    return pasts


def _move(session: Session, moves: Sequence[tuple[int, str, OptOut]], at: datetime) -> None:
    for status in sorted({opt_out.status for _, _, opt_out in moves}):
        session.execute(
            update(Subscriber)
            .where(Subscriber.id.in_([number for number, _, opt_out in moves if opt_out.status is status]))
            .values(status=status.value, changed_at=at)
            .execution_options(synchronize_session=False)
        )


def _add(session: Session, opt_outs: Sequence[OptOut], at: datetime) -> Sequence[tuple[int, str]]:
    """Add people who are out, and nothing of them but the address; return id and key of each."""
    if not opt_outs:
        return ()
    session.execute(
        insert(Subscriber.__table__),  # type: ignore[arg-type]
        [
            {
                "address": str(opt_out.address),
                "address_key": opt_out.address.key,
                "domain": opt_out.address.domain,
                "status": opt_out.status.value,
                "attributes": {},
                "created_at": at,
                "changed_at": at,
            }
            for opt_out in opt_outs
        ],
    )
    keys = [opt_out.address.key for opt_out in opt_outs]
    found = session.execute(
        select(Subscriber.id, Subscriber.address_key)
        .where(Subscriber.address_key.in_(keys))
        .order_by(Subscriber.id)
    )
    return [(row.id, row.address_key) for row in found]


def _suppress(session: Session, opt_outs: Sequence[OptOut], import_id: int, at: datetime) -> None:
    wanted = {one.address.key: SUPPRESSES[one.status] for one in opt_outs if one.status in SUPPRESSES}
    if not wanted:
        return
    known = set(session.scalars(select(Suppression.address_key).where(Suppression.address_key.in_(wanted))))
    rows = [
        {"address_key": key, "reason": reason, "at": at, "note": suppression_note(import_id)}
        for key, reason in wanted.items()
        if key not in known
    ]
    if rows:
        session.execute(insert(Suppression), rows)


def suppression_note(import_id: int) -> str:
    """Return how the suppressions of an import are told from others."""
    return f"import {import_id}"


def _line(
    subscriber_id: int, before: str, after: str, note: str, import_id: int, at: datetime
) -> dict[str, Any]:
    return {
        "subscriber_id": subscriber_id,
        "at": at,
        "before": before,
        "after": str(after),
        "way": "import",
        "note": note,
        "import_id": import_id,
    }
