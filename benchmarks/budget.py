"""CPU time of each part of sending a message, in microseconds: the table behind `send`.

Each part is measured by itself, over the messages of an issue with 60 KB of HTML and 40 KB of text:
composing, hashing and signing, transmitting over 20 pipelined connections to smtp-sink (kernel
included), and the books (a window claimed and settled in one durable transaction). `send`
measures the whole; the difference is the start of the command and the code between the parts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from benchmarks import Figure
from benchmarks._sink import sink
from benchmarks.compose import composer_of, padded_issue
from benchmarks.people import database_of
from mailer.config import Relay, Security, Settings
from mailer.database.tables import DeliveryState
from mailer.delivery import enqueueing, queue, runs
from mailer.delivery.books import books_of
from mailer.delivery.clock import now
from mailer.delivery.queue import Settled
from mailer.rendering.message import Dkim, Message, Recipient
from mailer.smtp import dkim
from mailer.smtp.session import Attempt, Outgoing, SmtpSession

_CONNECTIONS = 20
_MESSAGES = 100
_WINDOW = Settings().delivery.window // 2
"""How many deliveries a run claims at a time, while the other half is in flight."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the number of repetitions of each part."""
    parser.add_argument("--budget-messages", type=int, default=3_000, metavar="N", help="for 'budget'")
    parser.add_argument("--budget-rounds", type=int, default=12, metavar="N", help="for 'budget'")


def measure(options: argparse.Namespace) -> Iterator[Figure]:
    """Yield a line for each part: the least of the rounds, since other work can only add to it."""
    edition, number, rounds = padded_issue(), options.budget_messages, options.budget_rounds
    recipients = [Recipient(n, f"reader{n}@example.net", f"Reader {n}") for n in range(1, _MESSAGES + 1)]
    key = generate_private_key(public_exponent=65537, key_size=2048)
    signer = dkim.DkimSigner([dkim.SigningKey("example.org", "mail", key)])
    signing = composer_of(edition, Dkim(dkim.relaxed_lines, signer.sign_digest))
    drafts = [signing.draft(one, now()) for one in recipients]
    messages = [draft.message(signing.signature(draft)) for draft in drafts]
    composing = min(
        _cpu(lambda: [signing.draft(one, now()) for one in recipients]) for _ in range(20 * rounds)
    )
    hashing = min(_cpu(lambda: [signing.signature(draft) for draft in drafts]) for _ in range(rounds))
    openssl = min(
        _cpu(lambda: [key.sign(one.content, padding.PKCS1v15(), hashes.SHA256()) for one in messages])
        for _ in range(rounds)
    )
    yield _part("compose", composing / _MESSAGES, 60)
    yield Figure(
        "budget", "hash and sign (RSA-2048)", hashing / _MESSAGES, openssl / _MESSAGES, hashing / openssl,
        "<= 1.2 of OpenSSL doing both", hashing / openssl <= 1.2, "us",
    )  # fmt: skip
    with sink() as port:
        transmitting = min(_cpu(lambda: _transmit(port, messages, number)) for _ in range(rounds))
    yield _part("transmit", transmitting / number, 100)
    recording = min(_record(number) for _ in range(rounds))
    yield _part("record", recording / number, 30)
    parts = composing / _MESSAGES + hashing / _MESSAGES + transmitting / number + recording / number
    yield Figure("budget", "the parts together", parts, unit="us")


def _part(name: str, ours: float, bar: float) -> Figure:
    return Figure("budget", name, ours, None, None, f"<= {bar:g} us", ours <= bar, "us")


def _cpu(call: object) -> float:
    """Return the microseconds of CPU, the kernel's included, that a call takes."""
    assert callable(call)
    began = time.process_time_ns()
    call()
    return (time.process_time_ns() - began) / 1000


def _transmit(port: int, messages: list[Message], number: int) -> None:
    """Send `number` finished messages and check that each is accepted."""
    relay = Relay(host="127.0.0.1", port=port, security=Security.PLAIN, connections=_CONNECTIONS)
    outcomes: list[Attempt] = []
    keys = iter(range(number))

    def source() -> Outgoing | None:
        if (key := next(keys, None)) is None:
            return None
        message = messages[key % len(messages)]
        return Outgoing(key, message.envelope, message.parts, wire_safe=True)

    async def connection() -> None:
        session = await SmtpSession.open(relay)
        await session.run(source, outcomes.append)
        await session.close()

    async def everything() -> None:
        await asyncio.gather(*(connection() for _ in range(_CONNECTIONS)))

    uvloop.run(everything())
    assert sum(outcome.fate.value == "accepted" for outcome in outcomes) == number


def _record(number: int) -> float:
    """Return the microseconds of CPU to claim and settle that many deliveries, window after window."""
    with tempfile.TemporaryDirectory() as scratch:
        database = database_of(Path(scratch), number)
        issue = enqueueing.enqueue(Settings(), database, padded_issue(), Path("padded.md"), "", at=now())
        with database.transaction() as connection:
            run_id = runs.begin(connection, issue.id, at=now())
        after, outcomes = 0, list[Settled]()
        began = time.process_time_ns()
        while True:
            with database.transaction() as connection:
                queue.settle(connection, issue.id, outcomes, run_id=run_id, at=now())
                taken = queue.claim(
                    connection,
                    issue.id,
                    run_id=run_id,
                    limit=_WINDOW,
                    after=after,
                    at=now(),
                    resend_uncertain=True,
                )
            if not taken.claimed:
                break
            after = taken.after
            outcomes = [
                Settled(
                    one.recipient.subscriber_id, DeliveryState.SENT, code=250, enhanced="2.0.0", reply="Ok"
                )
                for one in taken.claimed
            ]
        used = (time.process_time_ns() - began) / 1000
        with database.reading() as connection:
            assert books_of(connection, issue.id).sent == number
        database.close()
    return used
