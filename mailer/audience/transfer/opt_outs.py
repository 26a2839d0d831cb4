"""Record people who opted out at another service, so that no later import adds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Row, delete, select

from mailer.address import Address
from mailer.audience.ledger import enrol, move
from mailer.audience.transitions import OUT, PERSONAL_WAYS, Enrolment, Move, Origin
from mailer.database.tables import Consent, Subscriber, SubscriberStatus

_S = SubscriberStatus
_ACTIVE: Final = _S.ACTIVE.value


@dataclass(frozen=True, slots=True)
class OptOut:
    """An opt-out in a file: `status` is one of `OUT`, `note` the file's own words.

    `at` is when the person opted out, or None if the file does not say.
    """

    address: Address
    status: SubscriberStatus
    note: str
    at: datetime | None


@dataclass(slots=True)
class RecordedOptOuts:
    """The outcome of recording opt-outs."""

    new: list[OptOut] = field(default_factory=list)
    """Unknown until now, and added as subscribers who have opted out."""
    taken_off: list[OptOut] = field(default_factory=list)
    """Active until now, without a sign-up of their own here."""
    left_alone: int = 0
    """Signed up here themselves, and not known to have opted out later; or still to confirm."""
    kept_out: int = 0
    """Had opted out or bounced already."""
    withdrawn: int = 0
    """Those of `new` that another row of the same import had added."""


def record_opt_outs(
    connection: Connection,
    opt_outs: Mapping[str, OptOut],
    *,
    barred: Callable[[Sequence[str]], set[str]],
    import_id: int,
    newest_before: int,
    at: datetime,
) -> RecordedOptOuts:
    """Record the opt-outs of an import, by address key, in a fixed number of statements.

    Nobody becomes active again. People who signed up here themselves stay unless they opted out later.
    `barred` returns which of the given address keys are suppressed or erased. Subscribers with an id above
    `newest_before` and no line in the ledger were added by this same import.
    """
    found = _locked(connection, opt_outs)
    signed_up_at = _ledgers(connection, [row.id for row in found.values()])
    kept_out = barred([key for key in opt_outs if key not in found])
    done = RecordedOptOuts(kept_out=len(kept_out))
    statuses: dict[int, OptOut] = {}
    withdrawn: list[int] = []
    for key, row in found.items():
        opt_out, status = opt_outs[key], SubscriberStatus(row.status)
        if status in OUT:
            done.kept_out += 1
            # The reason given there outlasts a bounce here, which the operator can lift.
            statuses[row.id] = opt_out if status is _S.BOUNCED else replace(opt_out, status=status)
        elif row.id not in signed_up_at and row.id > newest_before:
            done.withdrawn += 1
            done.new.append(opt_out)
            withdrawn.append(row.id)
        elif status is _S.PENDING or _came_after(signed_up_at.get(row.id), opt_out):
            done.left_alone += 1
        elif status is _S.ACTIVE:
            done.taken_off.append(opt_out)
            statuses[row.id] = opt_out
    done.new += [one for key, one in opt_outs.items() if key not in found and key not in kept_out]
    move(
        connection,
        [Move(known, one.status, _origin(one, import_id), at) for known, one in statuses.items()],
    )
    if withdrawn:
        connection.execute(delete(Subscriber).where(Subscriber.c.id.in_(withdrawn)))
    enrol(
        connection, [Enrolment(one.address, one.status, _origin(one, import_id)) for one in done.new], at=at
    )
    return done


def _locked(connection: Connection, keys: Iterable[str]) -> dict[str, Row[int, str, str]]:
    """Lock the subscribers with these address keys; return their id, key and status by key."""
    wanted = (
        select(Subscriber.c.id, Subscriber.c.address_key, Subscriber.c.status)
        .where(Subscriber.c.address_key.in_(keys))
        .order_by(Subscriber.c.id)
        .with_for_update()
    )
    return {row.address_key: row for row in connection.execute(wanted)}


def _origin(opt_out: OptOut, import_id: int) -> Origin:
    return Origin("import", note=opt_out.note, import_id=import_id)


def _came_after(signed_up_at: datetime | None, opt_out: OptOut) -> bool:
    if signed_up_at is None:
        return False
    return opt_out.at is None or signed_up_at >= opt_out.at


def _ledgers(connection: Connection, ids: Sequence[int]) -> dict[int, datetime | None]:
    """Return when each subscriber last signed up themselves, or None if they never did.

    Subscribers without a line in the ledger are missing from the result.
    """
    found: dict[int, datetime | None] = {}
    if not ids:
        return found
    columns = (Consent.c.subscriber_id, Consent.c.at, Consent.c.before, Consent.c.after, Consent.c.way)
    for line in connection.execute(
        select(*columns).where(Consent.c.subscriber_id.in_(ids)).order_by(Consent.c.id)
    ):
        found.setdefault(line.subscriber_id, None)
        # The person's own changes of preferences are lines too, but not consents.
        if line.way in PERSONAL_WAYS and line.after == _ACTIVE and line.before != line.after:
            found[line.subscriber_id] = line.at
    return found
