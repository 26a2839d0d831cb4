"""The queue of an issue: one row for each subscriber in its audience, and books that balance.

Runs claim, settle and release deliveries here, a window at a time. No function adds or deletes rows: each
moves them from one state to another, in the caller's transaction. Therefore, at every commit,
`audience = queued + sending + sent + deferred + failed + uncertain + skipped`.

Only two other modules change the state of a delivery, and they keep the sum in the same way: `control`, when
the operator cancels or retries an issue, and `mailer.bounces.effects`, when a message is returned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    update,
)

from mailer.database import running_totals
from mailer.database.among import among
from mailer.database.columns import to_microseconds
from mailer.database.engine import execute_many
from mailer.database.tables import WAITS, Delivery, DeliveryState, Run
from mailer.delivery.arms import arms_of
from mailer.delivery.candidates import Claimable, find_candidates
from mailer.delivery.recipients import recipient_of, tags_of
from mailer.delivery.waiting import RetryScan
from mailer.errors import MailerError
from mailer.rendering.recipient import Recipient

OPTED_OUT = "opted out or suppressed before its turn"
PENDING_UNTIL: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The due time of a delivery whose refusal is pending in its run's breaker."""


class Claimed(Struct, frozen=True):
    """A delivery that this run has claimed and may send."""

    recipient: Recipient
    domain: str
    attempt: int
    """The number of this attempt, from 1."""
    first_at: datetime
    arm: int | None = None
    """Their arm of an A/B test; None if they do not take part in one."""


class Taken(Struct, frozen=True):
    """The result of a claim."""

    claimed: list[Claimed]
    after: int
    """The highest queued subscriber id seen: the next claim continues after it."""
    skipped: int
    left: Counter[str]
    """How many rows left each state."""


class Settled(Struct, frozen=True):
    """The new state of a claimed delivery, and the reply that led to it."""

    subscriber_id: int
    state: DeliveryState
    due_at: datetime | None = None
    code: int | None = None
    enhanced: str | None = None
    reply: str | None = None
    bounce_class: str | None = None


# Built once, since these statements run for every window.
_MARK_SENDING: Final = (
    update(Delivery)
    .where(
        Delivery.c.issue_id == bindparam("_issue_id"),
        among(Delivery.c.subscriber_id, "_ids"),
    )
    .values(
        state=DeliveryState.SENDING.value,
        run_id=bindparam("_run_id"),
        attempts=Delivery.c.attempts + 1,
        first_at=func.coalesce(Delivery.c.first_at, bindparam("_at", type_=Delivery.c.first_at.type)),
        changed_at=bindparam("_at", type_=Delivery.c.first_at.type),
    )
)
_PENDING: Final = (
    update(Delivery)
    .where(
        Delivery.c.issue_id == bindparam("_issue_id"),
        among(Delivery.c.subscriber_id, "_ids"),
        Delivery.c.state == literal_column(f"'{DeliveryState.DEFERRED.value}'"),
        Delivery.c.run_id == bindparam("_run_id"),
    )
    .values(changed_at=bindparam("_at", type_=Delivery.c.changed_at.type))
)
_MARK_SENDING_ON_POSTGRESQL: Final = _MARK_SENDING.add_cte(
    text(running_totals.ADD_ON_POSTGRESQL).columns().cte("total")
)
_FAIL_PENDING: Final = _PENDING.values(state=DeliveryState.FAILED.value, due_at=None)
_RETRY_PENDING: Final = _PENDING.values(due_at=bindparam("_at", type_=Delivery.c.due_at.type), first_at=None)


def _settling(state: DeliveryState) -> Update:
    """Return the statement that settles one delivery of a run, if it is in this state."""
    names = ("state", "due_at", "changed_at", "code", "enhanced", "reply", "bounce_class")
    return (
        update(Delivery)
        .where(
            Delivery.c.issue_id == bindparam("_issue_id"),
            Delivery.c.subscriber_id == bindparam("_subscriber_id"),
            Delivery.c.state == literal_column(f"'{state.value}'"),
            Delivery.c.run_id == bindparam("_run_id"),
        )
        .values({name: bindparam(f"_{name}") for name in names})
    )


_SETTLE: Final = _settling(DeliveryState.SENDING)
_SETTLE_UNCERTAIN: Final = _settling(DeliveryState.UNCERTAIN)
_SETTLED_COLUMNS: Final = (
    "_subscriber_id", "_state", "_due_at", "_code", "_enhanced", "_reply", "_bounce_class",
)  # fmt: skip
_SETTLE_VALUES: Final = (*_SETTLED_COLUMNS, "_issue_id", "_run_id", "_changed_at")
_SETTLE_ALL: Final = text(
    f"WITH total AS ({running_totals.ADD_ON_POSTGRESQL})"  # noqa: S608 - names of columns
    " UPDATE deliveries SET state = outcome.state, due_at = outcome.due_at, code = outcome.code,"
    " enhanced = outcome.enhanced, reply = outcome.reply, bounce_class = outcome.bounce_class,"
    " changed_at = :_changed_at FROM unnest("
    # As in `among`: psycopg is slow to write arrays, and the planner must not know how long they are.
    " ARRAY(SELECT CAST(json_array_elements_text(CAST(:_subscriber_id AS json)) AS bigint)),"
    " ARRAY(SELECT json_array_elements_text(CAST(:_state AS json))),"
    " ARRAY(SELECT CAST(json_array_elements_text(CAST(:_due_at AS json)) AS bigint)),"
    " ARRAY(SELECT CAST(json_array_elements_text(CAST(:_code AS json)) AS int)),"
    " ARRAY(SELECT json_array_elements_text(CAST(:_enhanced AS json))),"
    " ARRAY(SELECT json_array_elements_text(CAST(:_reply AS json))),"
    " ARRAY(SELECT json_array_elements_text(CAST(:_bounce_class AS json))))"
    " AS outcome(subscriber_id, state, due_at, code, enhanced, reply, bounce_class)"
    " WHERE deliveries.issue_id = :_issue_id AND deliveries.subscriber_id = outcome.subscriber_id"
    " AND deliveries.state = 'sending' AND deliveries.run_id = :_run_id"
)
"""The same in one statement, for PostgreSQL: over a network each one costs a round trip."""


def recover(
    connection: Connection,
    issue_id: int,
    *,
    at: datetime,
    run_id: int | None = None,
    due_at: datetime | None = None,
) -> int:
    """Mark the deliveries that an interrupted run had claimed as `uncertain`; return how many.

    They are due now, or at `due_at`. Without the `run_id` of a run that has ended: of all that have ended. On
    SQLite that is every run, since the caller holds the lock. Refusals that were still pending are due now.
    """
    # This scans the issue once per start. An index on `sending` would cost two writes for each message.
    if run_id is not None:
        of_run: ColumnElement[bool] = Delivery.c.run_id == run_id
    elif connection.dialect.name == "sqlite":
        of_run = true()
    else:
        # A run without `seen_at` was copied from SQLite.
        over = or_(Run.c.ended_at.is_not(None), Run.c.seen_at.is_(None))
        of_run = Delivery.c.run_id.in_(select(Run.c.id).where(Run.c.issue_id == issue_id, over))
    interrupted = and_(
        Delivery.c.issue_id == issue_id, Delivery.c.state == DeliveryState.SENDING.value, of_run
    )
    connection.execute(
        update(Delivery)
        .where(Delivery.c.issue_id == issue_id, text(WAITS), Delivery.c.due_at == PENDING_UNTIL, of_run)
        .values(due_at=at, changed_at=at)
    )
    number = connection.execute(
        update(Delivery)
        .where(interrupted)
        .values(
            state=DeliveryState.UNCERTAIN.value,
            due_at=due_at or at,
            changed_at=at,
            code=None,
            enhanced=None,
            bounce_class=None,
            reply="the run was interrupted after this delivery was claimed",
        )
    ).rowcount
    running_totals.move(connection, issue_id, number, DeliveryState.SENDING, DeliveryState.UNCERTAIN)
    return number


def claim(
    connection: Connection,
    issue_id: int,
    *,
    run_id: int,
    limit: int,
    after: int,
    at: datetime,
    resend_uncertain: bool,
    except_domains: Collection[str] = (),
    members_only: bool = False,
    retry_scan: RetryScan | None = None,
    with_arms: bool = False,
    with_tags: bool = True,
) -> Taken:
    """Claim up to `limit` deliveries for this run: mark them `sending`.

    Retries that are due come first, then queued deliveries in the order of their subscribers' ids, starting
    after `after`. Those whose subscriber may no longer be mailed become `skipped`. Deliveries to
    `except_domains` stay as they are, and with `members_only` so do all but the canary's. `retry_scan`
    decides whether to search for retries now; without it, every claim does. `with_arms` is for
    issues with an A/B test. Without `with_tags`, recipients have no tags.
    """
    rows, after = find_candidates(
        connection,
        issue_id,
        limit=limit,
        after=after,
        at=at,
        resend_uncertain=resend_uncertain,
        except_domains=except_domains,
        members_only=members_only,
        retry_scan=retry_scan,
    )
    allowed = [row.subscriber_id for row in rows if row.allowed]
    refused = [row.subscriber_id for row in rows if not row.allowed]
    left = Counter(row.state for row in rows)
    if refused:
        _skip(connection, issue_id, refused, at=at)
    changes = Counter({DeliveryState.SENDING.value: len(allowed), DeliveryState.SKIPPED.value: len(refused)})
    changes.subtract(left)
    _mark_sending(connection, issue_id, allowed, changes, run_id=run_id, at=at)
    arms = arms_of(connection, issue_id, allowed) if with_arms else {}
    tags = tags_of(connection, allowed) if with_tags else {}
    claimed = _claimed(rows, tags, arms, at)
    return Taken(claimed, after, len(refused), left)


def settle(
    connection: Connection, issue_id: int, outcomes: Sequence[Settled], *, run_id: int, at: datetime
) -> None:
    """Write the outcomes of deliveries that this run had claimed, all in one statement.

    Raises `MailerError` if another run has taken any of them. The caller must then roll back:
    sending on with wrong books would be worse.
    """
    if not outcomes:
        return
    same = (issue_id, run_id, to_microseconds(at))
    rows = [_row(outcome) for outcome in outcomes]
    changes = Counter(outcome.state.value for outcome in outcomes)
    changes[DeliveryState.SENDING.value] -= len(outcomes)
    if connection.dialect.name == "postgresql":
        columns = [json.encode(column).decode() for column in zip(*rows, strict=True)]
        values = dict(zip(_SETTLE_VALUES, [*columns, *same], strict=True))
        values |= running_totals.parameters(issue_id, changes)
        done = connection.execute(_SETTLE_ALL, values).rowcount
    else:
        every = [row + same for row in rows]
        done = execute_many(connection, _SETTLE, _SETTLE_VALUES, every)
        running_totals.add(connection, issue_id, changes)
    if done != len(outcomes):
        raise MailerError(f"{len(outcomes) - done} of {len(outcomes)} deliveries were taken by another run")


def settle_late(
    connection: Connection, issue_id: int, outcomes: Sequence[Settled], *, run_id: int, at: datetime
) -> int:
    """Write that deliveries were sent, after another process ended their run; return how many.

    Those that another run has claimed since stay as they are.
    """
    same = (issue_id, run_id, to_microseconds(at))
    rows = [_row(outcome) + same for outcome in outcomes if outcome.state is DeliveryState.SENT]
    if not rows:
        return 0
    # In the order of their ids, so that two runs never wait for each other.
    number = execute_many(connection, _SETTLE_UNCERTAIN, _SETTLE_VALUES, sorted(rows))
    running_totals.move(connection, issue_id, number, DeliveryState.UNCERTAIN, DeliveryState.SENT)
    return number


def _row(outcome: Settled) -> tuple[int, str, int | None, int | None, str | None, str | None, str | None]:
    """Return the values of `_SETTLED_COLUMNS`."""
    return (
        outcome.subscriber_id,
        outcome.state.value,
        None if outcome.due_at is None else to_microseconds(outcome.due_at),
        outcome.code,
        outcome.enhanced,
        outcome.reply,
        outcome.bounce_class,
    )


def held(connection: Connection, issue_id: int, run_id: int) -> set[int]:
    """Return the subscribers whose deliveries this run has claimed and not settled."""
    ours = (Delivery.c.issue_id == issue_id, Delivery.c.state == DeliveryState.SENDING.value)
    return set(connection.scalars(select(Delivery.c.subscriber_id).where(*ours, Delivery.c.run_id == run_id)))


def holds_any(connection: Connection, issue_id: int, run_ids: Collection[int]) -> bool:
    """Return whether any of these runs has claimed a delivery and not settled it."""
    theirs = select(Delivery.c.subscriber_id).where(
        Delivery.c.issue_id == issue_id,
        Delivery.c.state == DeliveryState.SENDING.value,
        Delivery.c.run_id.in_(run_ids),
    )
    return connection.execute(theirs.limit(1)).first() is not None


def release(
    connection: Connection, issue_id: int, subscriber_ids: Iterable[int], *, run_id: int, at: datetime
) -> Counter[str]:
    """Put unsent deliveries back into the queue; return how many are now in each state.

    Each gets the state that it was claimed from, and the attempt does not count.
    """
    before = case(
        (Delivery.c.due_at.is_(None), DeliveryState.QUEUED.value),
        # Only an uncertain delivery has neither a code nor a class: nobody answered.
        (and_(Delivery.c.code.is_(None), Delivery.c.bounce_class.is_(None)), DeliveryState.UNCERTAIN.value),
        else_=DeliveryState.DEFERRED.value,
    )
    if not (wanted := list(subscriber_ids)):
        return Counter()
    given_back = (
        update(Delivery)
        .where(
            Delivery.c.issue_id == issue_id,
            Delivery.c.subscriber_id.in_(wanted),
            Delivery.c.state == DeliveryState.SENDING.value,
            Delivery.c.run_id == run_id,
        )
        .values(
            state=before,
            run_id=None,
            attempts=Delivery.c.attempts - 1,
            first_at=case((Delivery.c.attempts <= 1, None), else_=Delivery.c.first_at),
            changed_at=at,
        )
        .returning(Delivery.c.state)
    )
    now = Counter(connection.scalars(given_back))
    running_totals.add(connection, issue_id, {**now, DeliveryState.SENDING.value: -now.total()})
    return now


def fail_pending(
    connection: Connection, issue_id: int, subscriber_ids: Sequence[int], *, run_id: int, at: datetime
) -> set[int]:
    """Move this run's pending refusals from `deferred` to `failed`; return the subscribers of those moved."""
    if not subscriber_ids:
        return set()
    failed = _FAIL_PENDING.returning(Delivery.c.subscriber_id)
    values = {"_issue_id": issue_id, "_ids": subscriber_ids, "_run_id": run_id, "_at": at}
    moved = set(connection.scalars(failed, values))
    running_totals.move(connection, issue_id, len(moved), DeliveryState.DEFERRED, DeliveryState.FAILED)
    return moved


def retry_pending(
    connection: Connection, issue_id: int, subscriber_ids: Sequence[int], *, run_id: int, at: datetime
) -> None:
    """Make deliveries that this run deferred due immediately, as if they had never been tried."""
    if subscriber_ids:
        values = {"_issue_id": issue_id, "_ids": subscriber_ids, "_run_id": run_id, "_at": at}
        connection.execute(_RETRY_PENDING, values)


def _mark_sending(
    connection: Connection,
    issue_id: int,
    subscriber_ids: Sequence[int],
    changes: Mapping[str, int],
    *,
    run_id: int,
    at: datetime,
) -> None:
    """Mark deliveries `sending`, and add the changes of the whole claim to the totals."""
    values = {"_issue_id": issue_id, "_ids": subscriber_ids, "_run_id": run_id, "_at": at}
    if subscriber_ids and connection.dialect.name == "postgresql":
        values |= running_totals.parameters(issue_id, changes)
        connection.execute(_MARK_SENDING_ON_POSTGRESQL, values)
        return
    if subscriber_ids:
        connection.execute(_MARK_SENDING, values)
    running_totals.add(connection, issue_id, changes)


def _claimed(
    rows: Iterable[Claimable], tags: Mapping[int, tuple[str, ...]], arms: Mapping[int, int], at: datetime
) -> list[Claimed]:
    return [
        Claimed(
            recipient_of(row.subscriber_id, row, tags),
            row.domain,
            row.attempts + 1,
            row.first_at or at,
            arms.get(row.subscriber_id),
        )
        for row in rows
        if row.allowed
    ]


def _skip(connection: Connection, issue_id: int, subscriber_ids: Sequence[int], *, at: datetime) -> None:
    connection.execute(
        update(Delivery)
        .where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id.in_(subscriber_ids))
        .values(state=DeliveryState.SKIPPED.value, due_at=None, changed_at=at, reply=OPTED_OUT)
    )
