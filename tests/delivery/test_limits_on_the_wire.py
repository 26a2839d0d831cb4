"""What relays and providers ask for, seen from their side: a whole run, real sockets, skipped time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import event, func, select, update

from mailer.config import DeliverySettings, ProviderLimits, Relay
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState, Subscriber
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.sender import Hooks, Sender
from mailer.rehearsal.fast_time import FastLoop
from mailer.replies import BounceClass
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import books, learn_nothing, make_composer, queued
from tests.smtp.scripted import CLOSE, SILENCE, Script, serving

SLOW = "slow.example"
OTHERS = "example.org"


@dataclass
class Witness:
    """A server that notes when it heard of which recipient, and may refuse."""

    refuse: Callable[[str, int, float], bytes | None] = lambda recipient, count, at: None
    """Recipient, how many were heard of at that domain, and the seconds since the run began."""
    relay: Mapping[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=Script)
    heard: list[tuple[float, str]] = field(default_factory=list)
    began: float = math.nan

    def __post_init__(self) -> None:
        self.script.answer = self._answer

    def _answer(self, verb: str, count: int) -> bytes | None:
        if verb != "RCPT":
            return None
        now = asyncio.get_running_loop().time()
        recipient = self.script.recipients()[-1]
        self.heard.append((now - self.began, recipient))
        domain = recipient.partition("@")[2]
        return self.refuse(recipient, len(self.times(domain)), now - self.began)

    def times(self, domain: str = "") -> list[float]:
        """Return the times of RCPT commands for a domain, in order."""
        return [at for at, recipient in self.heard if recipient.endswith(domain)]


def send(
    database: Database, *witnesses: Witness, slow: int, others: int, provider: Mapping[str, Any] | None = None
) -> Books:
    """Send to `slow` recipients at the provider and `others` elsewhere, through all the servers."""
    issue = queued(database, slow + others)
    with database.transaction() as connection:
        for number in range(slow):
            # Spread among the others, so that their order in the queue favours nobody.
            chosen = 1 + number * (slow + others) // slow
            address = f"s{chosen}@{SLOW}"
            connection.execute(
                update(Subscriber)
                .where(Subscriber.c.id == chosen)
                .values(address=address, address_key=address, domain=SLOW)
            )
    providers = {"slow": ProviderLimits(domains=(SLOW,), **provider)} if provider is not None else {}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        at = datetime.now(UTC)
        async with AsyncExitStack() as stack:
            relays: dict[str, Relay] = {}
            for number, witness in enumerate(witnesses):
                relay = await stack.enter_async_context(serving(witness.script))
                changes = {"connections": 5, "messages_per_connection": 1_000, **witness.relay}
                relays[f"relay{number}"] = msgspec.structs.replace(relay, **changes)
                witness.began = loop.time()
            composer = make_composer(issue.id)
            began = loop.time()
            sender = Sender(
                database,
                issue.id,
                composer,
                Network(
                    {name: Access(relay) for name, relay in relays.items()},
                    providers,
                    client_name="here.example",
                ),
                DeliverySettings(window=100, wait_for_retries=True),
                Hooks(learn_nothing),
                Clock(
                    now=lambda: at + timedelta(seconds=loop.time() - began),
                    ticks=loop.time,
                    jitter=lambda: 1.0,
                    settle_seconds=60,
                ),
            )
            await sender.run()

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        runner.run(main())
    return books(database, issue)


def pace(times: list[float]) -> float:
    """Return messages a second over these instants."""
    return (len(times) - 1) / (times[-1] - times[0])


def test_rate_of_a_provider_is_kept_and_the_others_do_not_wait(database: Database) -> None:
    witness = Witness()
    done = send(database, witness, slow=40, others=200, provider={"rate_per_second": 2, "connections": 3})
    assert done.sent == 240
    assert pace(witness.times(SLOW)) <= 2.1
    assert 18 <= witness.times(SLOW)[-1] < 30
    assert witness.times(OTHERS)[-1] < 10


def test_too_fast_halves_the_pace_and_quiet_time_gives_it_back(database: Database) -> None:
    def refuse(recipient: str, count: int, at: float) -> bytes | None:
        too_fast = recipient.endswith(SLOW) and count == 40
        return b"421 4.7.0 Too many messages\r\n" if too_fast else None

    witness = Witness(refuse)
    claims: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("UPDATE deliveries SET state=") and "attempts + " in statement:
            claims.append(statement)

    done = send(database, witness, slow=500, others=100, provider={"rate_per_second": 4, "connections": 3})
    assert done.sent == 600
    # A window is 50 messages here. Claimed messages of a slow provider are not given back and claimed again.
    assert len(claims) <= 30
    times = witness.times(SLOW)
    complained = times[39]
    after = [at for at in times if complained < at <= complained + 60]
    assert 1.7 < pace(after) < 2.3
    later = [at for at in times if complained + 65 < at <= complained + 115]
    assert pace(after) * 1.1 < pace(later) < 4
    assert witness.times(OTHERS)[-1] < complained


def test_mailbox_that_gets_too_much_slows_nobody_else(database: Database) -> None:
    def refuse(recipient: str, count: int, at: float) -> bytes | None:
        too_fast = recipient.endswith(SLOW) and count == 5
        return b"450 4.2.1 The user is receiving mail too quickly\r\n" if too_fast else None

    witness = Witness(refuse)
    done = send(database, witness, slow=50, others=50, provider={"rate_per_second": 4})
    assert done.sent == 100
    times = witness.times(SLOW)
    assert len(times) == 51
    assert times[-2] < 20
    assert times[-1] >= 3_600


def test_time_that_a_reply_asks_for_is_waited_for_that_provider_alone(database: Database) -> None:
    def refuse(recipient: str, count: int, at: float) -> bytes | None:
        busy = recipient.endswith(SLOW) and at < 700
        return b"421 4.7.0 Too many messages, try again in 700 seconds\r\n" if busy else None

    witness = Witness(refuse)
    done = send(database, witness, slow=20, others=300, provider={"connections": 2})
    assert done.sent == 320
    early = [at for at in witness.times(SLOW) if at < 690]
    # What was on its way on its two connections when the reply came may still be named.
    assert len(early) <= 6
    assert min(at for at in witness.times(SLOW) if at not in early) >= 700
    assert witness.times(OTHERS)[-1] < 60


def test_provider_of_no_section_is_heeded_as_well(database: Database) -> None:
    def refuse(recipient: str, count: int, at: float) -> bytes | None:
        busy = recipient.endswith(SLOW) and at < 400
        return (
            b"451 4.7.650 The mail server has been temporarily rate limited, try again in 400 seconds\r\n"
            if busy
            else None
        )

    witness = Witness(refuse)
    assert send(database, witness, slow=20, others=300).sent == 320
    assert witness.times(OTHERS)[-1] < 60
    assert len([at for at in witness.times(SLOW) if at < 390]) <= 20


def test_bad_reputation_pauses_the_provider_alone(database: Database) -> None:
    def refuse(recipient: str, count: int, at: float) -> bytes | None:
        blocked = recipient.endswith(SLOW) and at < 3_000
        return b"550 5.7.1 Our system has detected a very low reputation of your IP\r\n" if blocked else None

    witness = Witness(refuse)
    done = send(database, witness, slow=30, others=300, provider={"connections": 1})
    assert done.sent >= 320
    assert len([at for at in witness.times(SLOW) if at < 3_000]) <= 4
    assert witness.times(OTHERS)[-1] < 60


def test_connections_to_a_provider_are_limited_across_relays(database: Database) -> None:
    first, second = Witness(), Witness()
    done = send(
        database, first, second, slow=60, others=60, provider={"rate_per_second": 3, "connections": 1}
    )
    assert done.sent == 120
    both = sorted(first.times(SLOW) + second.times(SLOW))
    assert pace(both) <= 3.2


def test_weights_divide_the_mail(database: Database) -> None:
    heavy, light = Witness(relay={"weight": 3}), Witness(relay={"weight": 1})
    assert send(database, heavy, light, slow=1, others=399).sent == 400
    assert 2 < len(heavy.heard) / len(light.heard) < 4.5


def test_rate_of_a_relay_sends_the_rest_through_the_other(database: Database) -> None:
    limited, free = Witness(relay={"rate_per_second": 1}), Witness()
    assert send(database, limited, free, slow=1, others=199).sent == 200
    assert len(limited.heard) < 30
    assert limited.times()[-1] < 30


def test_relay_that_goes_away_is_replaced_and_used_again(database: Database) -> None:
    gone = Witness(relay={"rate_per_second": 4})
    steady = Witness(relay={"rate_per_second": 4})
    note, heard = gone.script.answer, gone.times

    def answer(verb: str, count: int) -> bytes | None:
        now = asyncio.get_running_loop().time() - gone.began
        if 5 < now < 30:
            return CLOSE
        return note(verb, count)

    gone.script.answer = answer
    assert send(database, gone, steady, slow=1, others=399).sent == 400
    assert any(at <= 5 for at in heard())
    assert any(at >= 30 for at in heard())
    assert len([at for at in steady.times() if 6 < at < 30]) > 60


def test_fallback_is_used_only_while_the_other_is_down(database: Database) -> None:
    main = Witness(relay={"weight": 1})
    spare = Witness(relay={"weight": 0})
    assert send(database, main, spare, slow=1, others=99).sent == 100
    assert (len(main.heard), len(spare.heard)) == (100, 0)


@pytest.mark.parametrize(
    ("banner", "meaning"),
    # KDDI looks up recipients after the body: there, "user unknown" really is about the recipient.
    [("mx.example.net", BounceClass.FILTERED), ("lsean.ezweb.ne.jp", BounceClass.INVALID_MAILBOX)],
)
def test_refusal_is_judged_by_the_name_of_the_server(
    database: Database, banner: str, meaning: BounceClass
) -> None:
    witness = Witness(script=Script(greeting=f"220 {banner} ESMTP\r\n".encode()))
    witness.script.answer = lambda verb, count: (
        b"550 User unknown <one@example.org>\r\n" if (verb, count) == ("BODY", 1) else None
    )
    assert send(database, witness, slow=0, others=2).failed == 1
    with database.reading() as connection:
        failed = select(Delivery.c.bounce_class).where(Delivery.c.state == DeliveryState.FAILED.value)
        assert connection.scalars(failed).all() == [meaning.value]


def test_what_was_sent_is_written_soon_while_the_relay_hangs(database: Database) -> None:
    written: list[int] = []

    def look() -> None:
        with database.reading() as connection:
            sent = Delivery.c.state == DeliveryState.SENT.value
            written.append(connection.scalar(select(func.count()).where(sent)) or 0)

    def hang(recipient: str, count: int, at: float) -> bytes | None:
        if count != 3:
            return None
        # The others are written within a minute and a third.
        asyncio.get_running_loop().call_later(100, look)
        return SILENCE

    witness = Witness(hang, relay={"connections": 1, "rate_per_second": 0.05})
    assert send(database, witness, slow=0, others=9).sent == 9
    assert written == [2]
