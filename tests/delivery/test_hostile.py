"""A whole run against servers that keep no rule: it ends, no row is wrong, and nobody gets it twice.

The sockets are real and the timeouts those of RFC 5321; only the clock skips what is waited for.
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.database.tables import Delivery, DeliveryState
from mailer.delivery.clock import Clock
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.sender import Hooks, Sender
from mailer.rehearsal.fast_time import FastLoop
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import books, learn_nothing, make_composer, queued
from tests.smtp.scripted import CLOSE, EHLO, SILENCE, Handler, Script, serving

PEOPLE = 8
LOCK_STEP = b"250-test.example\r\n250 8BITMIME\r\n"
LONG = b"250-" + b"x" * 100_000 + b"\r\n250 2.0.0 ok\r\n"
MANY_LINES = b"250-2.0.0 more of it\r\n" * 5_000 + b"250 2.0.0 ok\r\n"
SENT, FAILED, DEFERRED = DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.DEFERRED
UNCERTAIN, QUEUED = DeliveryState.UNCERTAIN, DeliveryState.QUEUED


class Met:
    """What a run against a hostile server came to."""

    def __init__(
        self,
        database: Database,
        script: Script,
        *,
        connections: int = 2,
        wait: bool = False,
        handler: Handler | None = None,
        clock: Callable[[float], float] = lambda seconds: seconds,
        tls: ssl.SSLContext | None = None,
        **changes: Any,
    ) -> None:
        """Send; `clock` says what the wall clock shows so long after the start, `changes` are the relay's."""
        self.script = script
        self._clock = clock
        self._tls = tls
        self._changes = {"connections": connections, **changes}
        self._handler = handler
        issue = queued(database, PEOPLE)
        settings = DeliverySettings(
            window=20, uncertain="hold", wait_for_retries=wait, give_up_after=timedelta(hours=4)
        )
        with asyncio.Runner(loop_factory=FastLoop) as runner:
            self.ended, self.seconds = runner.run(self._send(database, issue.id, script, settings))
        self.books = books(database, issue)
        with database.reading() as connection:
            rows = connection.execute(select(Delivery.c.subscriber_id, Delivery.c.state))
            self.states = {f"s{number}@example.org": DeliveryState(state) for number, state in rows}

    async def _send(
        self, database: Database, issue_id: int, script: Script, settings: DeliverySettings
    ) -> tuple[Ended, float]:
        loop = asyncio.get_running_loop()
        began, at = loop.time(), datetime.now(UTC)
        async with serving(script, handler=self._handler) as relay:
            composer = make_composer(issue_id)
            sender = Sender(
                database,
                issue_id,
                composer,
                Network(
                    {"main": Access(msgspec.structs.replace(relay, **self._changes), tls=self._tls)},
                    client_name="here.example",
                ),
                settings,
                Hooks(learn_nothing),
                Clock(
                    now=lambda: at + timedelta(seconds=self._clock(loop.time() - began)),
                    ticks=loop.time,
                    jitter=lambda: 1.0,
                    settle_seconds=60,
                ),
            )
            ended = await sender.run()
        return ended, loop.time() - began

    def wrong_rows(self) -> list[str]:
        """Return the deliveries whose state is not what the server saw."""
        taken: Counter[str] = Counter()
        for body in self.script.accepted:
            found = re.search(rb"^To: .*?([^\s<>]+@example\.org)", body, re.M)
            if found:
                taken[found[1].decode()] += 1
        wrong = [f"{address} has it {count} times" for address, count in taken.items() if count > 1]
        for address, state in self.states.items():
            if state is SENT and taken[address] != 1:
                wrong.append(f"{address} is marked sent and has not got it")
            elif state not in (SENT, UNCERTAIN) and taken[address] != 0:
                wrong.append(f"{address} has it and is marked {state}")
            elif state is DeliveryState.SENDING:
                wrong.append(f"{address} is still marked sending")
        return wrong


def first(verb: str, reply: bytes) -> Callable[[str, int], bytes | None]:
    """Answer the first such command with `reply`, and all else as usual."""
    return lambda said, count: reply if (said, count) == (verb, 1) else None


def always(verb: str, reply: bytes) -> Callable[[str, int], bytes | None]:
    return lambda said, count: reply if said == verb else None


@pytest.fixture(params=[EHLO, LOCK_STEP], ids=["pipelining", "lock-step"])
def ehlo(request: pytest.FixtureRequest) -> bytes:
    found: bytes = request.param
    return found


@pytest.mark.parametrize(
    "odd",
    [
        {"piece": 1},
        {"answer": first("MAIL", b"250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three\r\n")},
        {"answer": first("RCPT", b"251 2.1.5 will be forwarded\r\n")},
        {"answer": first("RCPT", b"299 nobody knows this code\r\n")},
        {"answer": first("BODY", b"288-who knows\r\n288 what it means\r\n")},
        {"answer": first("BODY", b"250\r\n")},
        {"answer": first("RCPT", b"250-2.1.5 " + b"x" * 8_000 + b"\r\n250 2.1.5 ok\r\n")},
    ],
    ids=["octet by octet", "three lines", "251", "299", "288 in two lines", "bare code", "8 KB"],
)
def test_odd_but_lawful_answers_change_nothing(database: Database, ehlo: bytes, odd: dict[str, Any]) -> None:
    met = Met(database, Script(ehlo=ehlo, **odd))
    assert met.wrong_rows() == []
    assert (met.ended.ending, met.books.sent) == (Ending.FINISHED, PEOPLE)


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize(
    "reply",
    [
        LONG,
        MANY_LINES,
        b"no reply at all\r\n",
        b"\x00\xff\r\n",
        b"199 go on\r\n",
        b"699 what\r\n",
        CLOSE,
        SILENCE,
    ],
    ids=["100 KB line", "100 KB of lines", "text", "binary", "199", "699", "close", "silence"],
)
def test_nonsense_once_loses_nobody(database: Database, ehlo: bytes, verb: str, reply: bytes) -> None:
    met = Met(database, Script(ehlo=ehlo, answer=first(verb, reply)), wait=True)
    assert met.wrong_rows() == []
    # Only an answer to a whole message may leave a doubt, and only about that one.
    in_doubt = 1 if verb == "BODY" else 0
    assert (met.books.sent, met.books.uncertain) == (PEOPLE - in_doubt, in_doubt)


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize("reply", [LONG, b"nonsense\r\n", b"699 what\r\n", CLOSE, SILENCE])
def test_nonsense_always_ends_and_blames_nobody(
    database: Database, ehlo: bytes, verb: str, reply: bytes
) -> None:
    met = Met(database, Script(ehlo=ehlo, answer=always(verb, reply)))
    assert met.wrong_rows() == []
    assert met.books.sent == met.books.failed == 0
    expected = {UNCERTAIN} if verb == "BODY" else {QUEUED, DEFERRED}
    assert set(met.states.values()) & expected
    assert set(met.states.values()) <= {*expected, QUEUED}


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (b"599 5.9.9 never\r\n", FAILED),
        (b"499 later\r\n", DEFERRED),
        (b"550-5.1.1 no\r\n550 5.1.1 user\r\n", FAILED),
    ],
    ids=["599", "499", "two lines"],
)
@pytest.mark.parametrize("verb", ["RCPT", "BODY"])
def test_first_digit_decides_over_unknown_codes(
    database: Database, ehlo: bytes, verb: str, reply: bytes, state: DeliveryState
) -> None:
    met = Met(database, Script(ehlo=ehlo, answer=first(verb, reply)), connections=1)
    assert met.wrong_rows() == []
    assert Counter(met.states.values()) == {state: 1, SENT: PEOPLE - 1}


def test_250_for_data_never_counts_as_taken(database: Database, ehlo: bytes) -> None:
    met = Met(database, Script(ehlo=ehlo, answer=always("DATA", b"250 2.0.0 already done\r\n")))
    assert met.wrong_rows() == []
    assert (met.books.sent, met.script.bodies) == (0, [])


def test_354_after_a_refused_recipient_sends_nobody_elses_message(database: Database) -> None:
    # The server accepts DATA though it refused the only recipient: RFC 2920 section 3.1.
    met = Met(database, Script(answer=first("RCPT", b"550 5.1.1 no such user\r\n")), connections=1)
    assert met.wrong_rows() == []
    assert Counter(met.states.values()) == {FAILED: 1, SENT: PEOPLE - 1}
    assert met.script.bodies.count(b"") == 1


@pytest.mark.parametrize("greeting", [SILENCE, CLOSE, b"554 5.7.1 not you\r\n", b"421 4.3.2 busy\r\n", LONG])
def test_missing_greeting_keeps_every_delivery_queued(database: Database, greeting: bytes) -> None:
    met = Met(database, Script(greeting=greeting))
    assert met.wrong_rows() == []
    assert met.books.queued == PEOPLE
    assert met.ended.ending in (Ending.UNREACHABLE, Ending.PAUSED)
    assert met.seconds < 2 * 300


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
@pytest.mark.parametrize(
    "extra", [b"250 2.0.0 twice\r\n", b"354 go on\r\n", b"550 5.1.1 no\r\n", b"250 ok\r\n" * 40]
)
def test_replies_nobody_asked_for_make_no_wrong_row(
    database: Database, ehlo: bytes, verb: str, extra: bytes
) -> None:
    usual = b"354 go on\r\n" if verb == "DATA" else b"250 2.0.0 ok\r\n"
    met = Met(database, Script(ehlo=ehlo, answer=first(verb, usual + extra)), wait=True)
    assert met.wrong_rows() == []
    # One may take the refusal for that of our envelope sender, which stops the run for the operator.
    assert met.ended.ending is Ending.PAUSED or met.books.sent >= PEOPLE - 2


def test_silence_costs_no_more_than_the_timeouts(database: Database) -> None:
    met = Met(database, Script(answer=always("BODY", SILENCE)), connections=PEOPLE)
    assert met.wrong_rows() == []
    assert met.books.uncertain > 0
    assert met.books.uncertain + met.books.queued == PEOPLE
    assert 600 <= met.seconds < 2 * 700


@pytest.mark.parametrize("seed", range(10))
def test_whatever_it_does_no_row_is_wrong(database: Database, ehlo: bytes, seed: int) -> None:
    chance = random.Random(seed)
    menu = [
        CLOSE, SILENCE, LONG, b"nonsense\r\n", b"250 ok\r\n250 ok\r\n", b"354 go on\r\n", b"250 ok\r\n",
        b"299 ok\r\n", b"421 4.3.2 bye\r\n", b"450 4.2.0 later\r\n", b"550 5.1.1 gone\r\n", b"599 no\r\n",
    ]  # fmt: skip

    def answer(verb: str, count: int) -> bytes | None:
        if verb in ("EHLO", "QUIT", "RSET") or chance.random() > 0.15:
            return None
        return chance.choice(menu)

    met = Met(database, Script(ehlo=ehlo, piece=chance.choice([0, 0, 3]), answer=answer), wait=True)
    assert met.wrong_rows() == []
