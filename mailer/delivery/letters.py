"""The queue of letters: one row for each confirmation, welcome, goodbye or message that is not settled yet.

A letter is a delivery to one person: because of something that person did, or a message that another program
sends by the API. It has the states of a delivery, and `judging.decide` settles it like one; but its row is
deleted once it is sent, failed or skipped. The event written when it was requested keeps the result, and
shows whether somebody has had such a letter today.

A claim expires, and then another process may take over the letter. Nothing has to clean up after a crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, case, delete, exists, func, insert, select, update

from mailer.database.tables import (
    DeliveryState,
    Event,
    Subscriber,
    SubscriberStatus,
    Suppression,
    TableRow,
    WaitingLetter,
)
from mailer.delivery.books import Books
from mailer.delivery.queue import Claimed, Settled
from mailer.delivery.recipients import recipient_of, tags_of
from mailer.errors import RefusedError
from mailer.rendering.recipient import Recipient

_S = SubscriberStatus
_MAX_SAID: Final = 512
_NOT_NEEDED: Final = "no longer needed"
_EXPIRED: Final = "no relay took it in time"


class LetterKind(StrEnum):
    """The kinds of letters. All but messages are named after their files in `email_templates/letters/`."""

    CONFIRMATION = "confirmation"
    WELCOME = "welcome"
    GOODBYE = "goodbye"
    MESSAGE = "message"


_WANTED_BY: Final = {
    LetterKind.CONFIRMATION: frozenset({_S.PENDING, _S.UNSUBSCRIBED, _S.BOUNCED, _S.COMPLAINED}),
    LetterKind.WELCOME: frozenset({_S.ACTIVE}),
    LetterKind.GOODBYE: frozenset({_S.UNSUBSCRIBED}),
    LetterKind.MESSAGE: frozenset({_S.PENDING, _S.ACTIVE, _S.UNSUBSCRIBED}),
}
"""The statuses in which a subscriber still needs the letter when its turn comes."""
_EVENT_KINDS: Final = [name for kind in LetterKind for name in (kind.value, f"no {kind.value}")]
_ENDINGS: Final = {
    DeliveryState.SENT: "sent",
    DeliveryState.FAILED: "given up",
    DeliveryState.SKIPPED: "not sent",
}
"""How an event words the end of a letter."""
_SUPPRESSED: Final = exists().where(Suppression.c.address_key == Subscriber.c.address_key).label("suppressed")
_CLAIMABLE: Final = select(
    WaitingLetter.c.id, WaitingLetter.c.kind, WaitingLetter.c.source, WaitingLetter.c.language,
    WaitingLetter.c.asked_at, WaitingLetter.c.attempts, WaitingLetter.c.state, WaitingLetter.c.reply,
    WaitingLetter.c.subscriber_id, Subscriber.c.address, Subscriber.c.domain, Subscriber.c.name,
    Subscriber.c.attributes, Subscriber.c.status, _SUPPRESSED,
).join(Subscriber, Subscriber.c.id == WaitingLetter.c.subscriber_id)  # fmt: skip


class Letter(Struct, frozen=True):
    """A claimed letter."""

    id: int
    kind: LetterKind
    language: str
    recipient: Recipient
    domain: str
    asked_at: datetime
    """Dates the message and makes its Message-ID, so that a second attempt repeats the first."""
    attempts: int
    """Attempts, this one included."""
    was: DeliveryState = DeliveryState.QUEUED
    """The state that it was claimed from."""
    source: str = ""
    """The text of a message."""

    def as_delivery(self) -> Claimed:
        """Return the letter as the judge sees it; its age counts from when it was requested."""
        return Claimed(self.recipient, self.domain, self.attempts, self.asked_at)


def put(
    connection: Connection,
    subscriber_id: int,
    kind: LetterKind,
    *,
    at: datetime,
    language: str = "",
    source: str = "",
) -> int:
    """Queue a letter to a subscriber; return its id.

    It is written in `language` (BCP 47) where that exists; empty is the newsletter's. `source` is the text of
    a message.
    """
    letter_id = connection.execute(
        insert(WaitingLetter)
        .values(
            subscriber_id=subscriber_id,
            kind=kind.value,
            source=source,
            language=language,
            asked_at=at,
            due_at=at,
        )
        .returning(WaitingLetter.c.id)
    ).scalar_one()
    connection.execute(
        insert(Event).values(at=at, kind=kind.value, subscriber_id=subscriber_id, details={"letter": "waits"})
    )
    return letter_id


def put_message(connection: Connection, subscriber_id: int, source: str, *, at: datetime) -> int:
    """Queue a message to a subscriber, written as an issue is; return its id.

    Raises `RefusedError` if the address must not be mailed. Someone who unsubscribed from the newsletter can
    still get a message, such as a receipt.
    """
    status, suppressed = connection.execute(
        select(Subscriber.c.status, _SUPPRESSED).where(Subscriber.c.id == subscriber_id)
    ).one()
    if suppressed or _S(status) not in _WANTED_BY[LetterKind.MESSAGE]:
        raise RefusedError(
            "this address bounced, complained or is suppressed",
            remedy="see the history with: mailer why ADDRESS",
        )
    return put(connection, subscriber_id, LetterKind.MESSAGE, at=at, source=source)


def asked_since(connection: Connection, subscriber_id: int, kind: LetterKind, *, since: datetime) -> bool:
    """Return whether such a letter was requested after `since`; one that failed does not count."""
    wanted = select(Event.c.id).where(
        Event.c.subscriber_id == subscriber_id, Event.c.kind == kind.value, Event.c.at > since
    )
    return connection.scalar(wanted.limit(1)) is not None


def due(connection: Connection, *, at: datetime, resend_uncertain: bool = True) -> bool:
    """Return whether there is a letter to claim."""
    wanted = select(WaitingLetter.c.id).where(*_due(at, resend_uncertain))
    return connection.scalar(wanted.limit(1)) is not None


def claim(
    connection: Connection,
    *,
    limit: int,
    at: datetime,
    hold: timedelta,
    give_up_after: timedelta = timedelta(days=2),
    resend_uncertain: bool = True,
    except_domains: Collection[str] = (),
) -> list[Letter]:
    """Claim up to `limit` due letters for as long as `hold`, none to `except_domains`.

    Letters that are no longer needed are skipped: the reader has confirmed, come back or been erased. So are
    messages to an address that was suppressed meanwhile. Those requested longer than `give_up_after` ago
    fail. A letter whose claim ran out is uncertain; it is claimed again with `resend_uncertain`, or else
    waits for the operator.
    """
    rows = connection.execute(
        _CLAIMABLE.where(*_due(at, resend_uncertain), Subscriber.c.domain.not_in(list(except_domains)))
        .order_by(WaitingLetter.c.due_at, WaitingLetter.c.id)
        .limit(limit)
        .with_for_update(of=WaitingLetter, skip_locked=True)
    ).all()
    tags = tags_of(connection, [row.subscriber_id for row in rows])
    claimed: list[Letter] = []
    ended: list[int] = []
    held: list[int] = []
    for row in rows:
        letter = _letter(row, tags)
        unwanted = letter.kind is LetterKind.MESSAGE and row.suppressed
        if unwanted or _S(row.status) not in _WANTED_BY[letter.kind]:
            ended.append(letter.id)
            _tell_ending(connection, letter, DeliveryState.SKIPPED, _NOT_NEEDED)
        elif at - letter.asked_at > give_up_after:
            ended.append(letter.id)
            _tell_ending(connection, letter, DeliveryState.FAILED, row.reply or _EXPIRED)
        elif letter.was is DeliveryState.UNCERTAIN and not resend_uncertain:
            held.append(letter.id)
        else:
            claimed.append(letter)
    if ended:
        connection.execute(delete(WaitingLetter).where(WaitingLetter.c.id.in_(ended)))
    _change(connection, held, {"state": DeliveryState.UNCERTAIN.value, "changed_at": at})
    _change(
        connection,
        [letter.id for letter in claimed],
        {
            "state": DeliveryState.SENDING.value,
            "changed_at": at,
            "due_at": at + hold,
            "attempts": WaitingLetter.c.attempts + 1,
        },
    )
    return claimed


def _change(connection: Connection, letter_ids: list[int], values: Mapping[str, object]) -> None:
    if letter_ids:
        connection.execute(update(WaitingLetter).where(WaitingLetter.c.id.in_(letter_ids)).values(values))


def settle(connection: Connection, letter: Letter, settled: Settled, *, at: datetime) -> bool:
    """Write the result of a claimed letter; return False if another process has taken it over."""
    if settled.state in _ENDINGS:
        done = connection.execute(delete(WaitingLetter).where(*_ours(letter)))
    else:
        values = {
            "state": settled.state.value,
            "due_at": settled.due_at,
            "changed_at": at,
            "code": settled.code,
            "enhanced": settled.enhanced,
            "reply": settled.reply,
            "bounce_class": settled.bounce_class,
        }
        done = connection.execute(update(WaitingLetter).where(*_ours(letter)).values(values))
    if not done.rowcount:
        return False
    if settled.state in _ENDINGS:
        _tell_ending(connection, letter, settled.state, _said(settled))
    else:
        _tell(connection, letter, f"waits, {_said(settled)}")
    return True


def release(connection: Connection, letter: Letter, *, at: datetime, why: str = "") -> None:
    """Release a letter that was not sent: it is due again, and the attempt does not count."""
    back = {"state": letter.was.value, "due_at": at, "changed_at": at, "attempts": letter.attempts - 1}
    done = connection.execute(update(WaitingLetter).where(*_ours(letter)).values(back))
    if done.rowcount and why:
        _tell(connection, letter, f"waits, {why}")


def books(connection: Connection) -> Books:
    """Return how many letters are in each state, as far back as their events are kept."""
    waiting = select(WaitingLetter.c.state, func.count()).group_by(WaitingLetter.c.state)
    counts: Counter[str] = Counter()
    for state, number in connection.execute(waiting):
        counts[state] = number
    said = Event.c.details["letter"].as_string()
    ended = [func.count(case((said.startswith(f"{word}, "), 1))) for word in _ENDINGS.values()]
    # Without an issue: that part of the index holds no opens and clicks.
    ours = Event.c.issue_id.is_(None), Event.c.kind.in_(_EVENT_KINDS)
    told = connection.execute(select(*ended).where(*ours)).one()
    for ending, number in zip(_ENDINGS, told, strict=True):
        counts[ending.value] = number
    return Books(audience=counts.total(), **{state.value: counts[state.value] for state in DeliveryState})


def _letter(row: TableRow, tags: Mapping[int, tuple[str, ...]]) -> Letter:
    was, kind = DeliveryState(row.state), LetterKind(row.kind)
    recipient = recipient_of(row.subscriber_id, row, tags)
    if kind is LetterKind.CONFIRMATION:
        # Anyone can type any address and "name" into the form: an advertisement must not reach its owner.
        recipient = replace(recipient, name="", attributes={})
    return Letter(
        id=row.id,
        kind=kind,
        language=row.language,
        recipient=recipient,
        domain=row.domain,
        asked_at=row.asked_at,
        attempts=row.attempts + 1,
        # The process that claimed it did not settle it in time, so it may have been sent.
        was=DeliveryState.UNCERTAIN if was is DeliveryState.SENDING else was,
        source=row.source,
    )


def _due(at: datetime, resend_uncertain: bool) -> tuple[ColumnElement[bool], ...]:
    states = [DeliveryState.QUEUED, DeliveryState.DEFERRED, DeliveryState.SENDING]
    if resend_uncertain:
        states.append(DeliveryState.UNCERTAIN)
    return WaitingLetter.c.due_at <= at, WaitingLetter.c.state.in_([state.value for state in states])


def _ours(letter: Letter) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that hold while this claim of a letter is valid."""
    return (
        WaitingLetter.c.id == letter.id,
        WaitingLetter.c.state == DeliveryState.SENDING.value,
        WaitingLetter.c.attempts == letter.attempts,
    )


def _tell(connection: Connection, letter: Letter, said: str, *, kind: str = "") -> None:
    """Update the event that was written when the letter was requested."""
    connection.execute(
        update(Event)
        .where(
            Event.c.subscriber_id == letter.recipient.subscriber_id,
            Event.c.kind == letter.kind.value,
            Event.c.at == letter.asked_at,
        )
        .values(kind=kind or letter.kind.value, details={"letter": said[:_MAX_SAID]})
    )


def _tell_ending(connection: Connection, letter: Letter, state: DeliveryState, said: str) -> None:
    # A failed letter does not count as requested, so the person can request it again.
    kind = f"no {letter.kind.value}" if state is DeliveryState.FAILED else ""
    _tell(connection, letter, f"{_ENDINGS[state]}, {said}", kind=kind)


def _said(settled: Settled) -> str:
    """Return the server's reply, or the problem if there was none."""
    return " ".join(str(part) for part in (settled.code, settled.enhanced, settled.reply) if part)
