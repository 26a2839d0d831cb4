"""The queue of letters: the states of a delivery, books that balance, and claims that run out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert, select, update

from mailer.config import Relay, Settings
from mailer.database.engine import Database
from mailer.database.tables import DeliveryState, Event, Subscriber, SubscriberTag, Suppression, WaitingLetter
from mailer.delivery import letters
from mailer.delivery.letter_queue import LetterQueue
from mailer.delivery.letters import Letter, LetterKind
from mailer.delivery.queue import Settled
from mailer.replies import BounceClass
from mailer.smtp.relay import Access, RelayState
from mailer.smtp.session import Attempt, Fate, Reply, Stage
from mailer.tokens import Signer
from tests.database.statements import statements
from tests.delivery.scene import AT, subscribe

HOLD = timedelta(minutes=15)
QUEUED, SENDING, SENT = DeliveryState.QUEUED, DeliveryState.SENDING, DeliveryState.SENT
DEFERRED, FAILED = DeliveryState.DEFERRED, DeliveryState.FAILED
UNCERTAIN, SKIPPED = DeliveryState.UNCERTAIN, DeliveryState.SKIPPED


def put(database: Database, number: int) -> None:
    """Queue a welcome to each of that many subscribers."""
    subscribe(database, number)
    with database.transaction() as connection:
        for n in range(1, number + 1):
            letters.put(connection, n, LetterKind.WELCOME, at=AT)


def claim(
    database: Database,
    *,
    at: datetime = AT,
    limit: int = 20,
    resend: bool = True,
    except_domains: Sequence[str] = (),
) -> list[Letter]:
    with database.transaction() as connection:
        return letters.claim(
            connection, limit=limit, at=at, hold=HOLD, resend_uncertain=resend, except_domains=except_domains
        )


def settle(database: Database, letter: Letter, settled: Settled, at: datetime = AT) -> bool:
    with database.transaction() as connection:
        return letters.settle(connection, letter, settled, at=at)


def counts(database: Database) -> dict[str, int]:
    """Return the books without their zeros; they balance."""
    with database.reading() as connection:
        found = letters.books(connection)
    assert found.balanced
    return {name: number for name, number in found.as_dict().items() if number}


def told(database: Database, subscriber_id: int) -> tuple[str, str]:
    with database.reading() as connection:
        event = connection.execute(select(Event).where(Event.c.subscriber_id == subscriber_id)).one()
        return event.kind, event.details["letter"]


def test_books_balance_whatever_becomes_of_letters(database: Database) -> None:
    put(database, 6)
    assert counts(database) == {"audience": 6, "queued": 6}
    claimed = claim(database, limit=5)
    assert counts(database) == {"audience": 6, "queued": 1, "sending": 5}
    later = AT + timedelta(minutes=1)
    for letter, settled in zip(
        claimed,
        [
            Settled(1, SENT, code=250, enhanced="2.0.0", reply="taken"),
            Settled(2, FAILED, code=550, enhanced="5.1.1", reply="No such user"),
            Settled(3, DEFERRED, later, 451, "4.3.0", "Try again later", "other"),
            Settled(4, UNCERTAIN, later, reply="timed out"),
        ],
        strict=False,
    ):
        assert settle(database, letter, settled)
    with database.transaction() as connection:
        letters.release(connection, claimed[4], at=AT)
    with database.transaction() as connection:
        connection.execute(update(Subscriber).where(Subscriber.c.id == 6).values(status="unsubscribed"))
    assert [letter.recipient.subscriber_id for letter in claim(database)] == [5]
    assert counts(database) == {
        "audience": 6, "sending": 1, "sent": 1, "deferred": 1, "failed": 1, "uncertain": 1, "skipped": 1,
    }  # fmt: skip
    assert [told(database, n) for n in (1, 2, 3, 4, 6)] == [
        ("welcome", "sent, 250 2.0.0 taken"),
        ("no welcome", "given up, 550 5.1.1 No such user"),
        ("welcome", "waits, 451 4.3.0 Try again later"),
        ("welcome", "waits, timed out"),
        ("welcome", "not sent, no longer needed"),
    ]


@pytest.mark.parametrize("state", [QUEUED, DEFERRED, UNCERTAIN])
def test_letter_that_is_given_back_is_what_it_was(database: Database, state: DeliveryState) -> None:
    put(database, 1)
    at = AT
    if state is not QUEUED:
        (letter,) = claim(database)
        at = AT + timedelta(minutes=1)
        settle(database, letter, Settled(1, state, at, reply="busy"))
    (letter,) = claim(database, at=at)
    with database.transaction() as connection:
        letters.release(connection, letter, at=at, why="the relay is away")
    assert counts(database) == {"audience": 1, state.value: 1}
    assert told(database, 1) == ("welcome", "waits, the relay is away")
    (again,) = claim(database, at=at)
    assert again.attempts == letter.attempts


def test_claim_that_ran_out_goes_to_another_process_and_no_longer_settles(database: Database) -> None:
    put(database, 1)
    (slow,) = claim(database)
    assert claim(database, at=AT + HOLD - timedelta(seconds=1)) == []
    (second,) = claim(database, at=AT + HOLD)
    assert (second.attempts, second.was) == (2, UNCERTAIN)
    assert not settle(database, slow, Settled(1, FAILED, reply="too late"))
    assert settle(database, second, Settled(1, SENT, reply="taken"))
    assert counts(database) == {"audience": 1, "sent": 1}


def test_uncertain_letters_wait_for_the_operator_where_they_are_held(database: Database) -> None:
    put(database, 1)
    claim(database)
    assert claim(database, at=AT + HOLD, resend=False) == []
    assert counts(database) == {"audience": 1, "uncertain": 1}
    assert claim(database, at=AT + HOLD, resend=False) == []
    with database.reading() as connection:
        assert not letters.due(connection, at=AT + HOLD, resend_uncertain=False)
        assert letters.due(connection, at=AT + HOLD)
    assert len(claim(database, at=AT + HOLD)) == 1


def test_letter_that_no_relay_took_for_days_is_given_up(database: Database) -> None:
    put(database, 1)
    assert len(claim(database, at=AT + timedelta(days=2))) == 1
    later = AT + timedelta(days=2) + HOLD
    assert claim(database, at=later) == []
    assert told(database, 1) == ("no welcome", "given up, no relay took it in time")
    assert counts(database) == {"audience": 1, "failed": 1}


def test_letters_to_a_held_provider_wait(database: Database) -> None:
    put(database, 2)
    with database.transaction() as connection:
        connection.execute(update(Subscriber).where(Subscriber.c.id == 1).values(domain="slow.example"))
    assert [one.domain for one in claim(database, except_domains=["slow.example"])] == ["example.org"]
    assert counts(database) == {"audience": 2, "queued": 1, "sending": 1}


def test_letter_has_the_tags_of_its_reader(database: Database) -> None:
    put(database, 1)
    with database.transaction() as connection:
        tags = [{"subscriber_id": 1, "tag": tag} for tag in ("vip", "beta")]
        connection.execute(insert(SubscriberTag), tags)
    (letter,) = claim(database)
    assert letter.recipient.tags == ("beta", "vip")


@pytest.mark.parametrize("kind", LetterKind)
def test_what_a_stranger_typed_is_in_no_confirmation(database: Database, kind: LetterKind) -> None:
    spam = "You won $1000 https://win.example"
    status = {LetterKind.CONFIRMATION: "pending", LetterKind.GOODBYE: "unsubscribed"}.get(kind, "active")
    subscribe(database, 1)
    with database.transaction() as connection:
        changed = {"name": spam, "attributes": {"city": spam}, "status": status}
        connection.execute(update(Subscriber).values(changed))
        letters.put(connection, 1, kind, at=AT)
    (letter,) = claim(database)
    typed = (letter.recipient.name, letter.recipient.attributes)
    assert typed == (("", {}) if kind is LetterKind.CONFIRMATION else (spam, {"city": spam}))


def test_two_claims_share_no_letter(database: Database) -> None:
    put(database, 5)
    first, second = claim(database, limit=3), claim(database)
    assert [letter.recipient.subscriber_id for letter in (*first, *second)] == [1, 2, 3, 4, 5]
    with database.reading() as connection:
        assert set(connection.scalars(select(WaitingLetter.c.attempts))) == {1}


def test_claim_of_many_messages_takes_as_many_statements_as_of_one(database: Database) -> None:
    """Those to addresses that are suppressed are not sent."""
    subscribe(database, 12)
    with database.transaction() as connection:
        for n in range(1, 13):
            letters.put_message(connection, n, "---\n---\nHello", at=AT)
        key = select(Subscriber.c.address_key).where(Subscriber.c.id == 12).scalar_subquery()
        connection.execute(insert(Suppression).values(address_key=key, reason="complaint", at=AT))
    numbers = []
    for limit in (1, 10):
        with statements(database) as said:
            assert len(claim(database, limit=limit)) == limit
        numbers.append(len(said))
    assert numbers[0] == numbers[1]
    assert claim(database) == []
    assert told(database, 12) == ("message", "not sent, no longer needed")
    assert counts(database) == {"audience": 12, "sending": 11, "skipped": 1}


@pytest.mark.parametrize(
    ("host", "banner", "expected"),
    [
        ("mx.example.net", "", BounceClass.FILTERED),
        ("mx.example.net", "mx.example.net", BounceClass.FILTERED),
        # KDDI looks up recipients after the body: there, "user unknown" really is about the recipient.
        ("mx.example.net", "lsean.ezweb.ne.jp", BounceClass.INVALID_MAILBOX),
        ("lsean.ezweb.ne.jp", "", BounceClass.INVALID_MAILBOX),
    ],
)
def test_refused_letter_is_judged_by_the_names_of_its_server(
    database: Database, host: str, banner: str, expected: BounceClass
) -> None:
    put(database, 1)
    queue = LetterQueue(Settings(), database, Signer([b"sixteen octets.."]), clock=lambda: AT)
    (item,) = asyncio.run(queue.exchange(1))
    relay = RelayState("relay", Access(Relay(host=host)))
    relay.greeted_as = banner
    reply = Reply(550, "", "User unknown <one@example.org>")
    settled = queue.settle(Attempt(item.key, Fate.REFUSED, Stage.BODY, reply), relay)
    assert settled is not None
    assert settled[0].bounce_class is expected
