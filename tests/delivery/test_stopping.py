"""A run that is stopped while the relay says nothing: it ends soon, and little is uncertain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from sqlalchemy import event

from mailer.config import DeliverySettings
from mailer.database.engine import Database
from mailer.delivery import issues
from mailer.delivery.books import Books
from mailer.delivery.clock import Clock
from mailer.delivery.dispatch import stop_in_two_steps
from mailer.delivery.ending import Ended, Ending
from mailer.delivery.sender import STOP_SECONDS, Hooks, Sender
from mailer.rehearsal.fast_time import FastLoop
from mailer.smtp.pool import Access, Network
from tests.delivery.scene import EDITION, books, learn_nothing, make_composer, queued
from tests.smtp.scripted import EHLO, SILENCE, Script, serving

PEOPLE, CONNECTIONS = 60, 2
LOCK_STEP = b"250-test.example\r\n250 8BITMIME\r\n"
Sent = tuple[Ended, Books, float, list[str], list[Books]]


def silent_at(verb: str, count: int = 1) -> Callable[[str, int], bytes | None]:
    """Say nothing from the `count`-th such command on."""
    return lambda said, number: SILENCE if said == verb and number >= count else None


def send(
    database: Database, script: Script, stop: Callable[[Sender], None], *, after_seconds: float = 60.0
) -> Sent:
    """Send to a silent relay and call `stop`; return the ending, the books, the seconds from then on,
    what the run said, and the books that it showed after the stop.
    """
    issue = queued(database, PEOPLE)
    said: list[str] = []
    shown: list[Books] = []

    async def go() -> tuple[Ended, float]:
        loop = asyncio.get_running_loop()
        began, at = loop.time(), datetime.now(UTC)
        async with serving(script) as relay:
            relay = msgspec.structs.replace(relay, connections=CONNECTIONS)
            clock = Clock(now=lambda: at + timedelta(seconds=loop.time() - began), ticks=loop.time)
            hooks = Hooks(learn_nothing, shown.append, say=said.append)
            network = Network({"main": Access(relay)}, client_name="here.example")
            settings = DeliverySettings(window=40, uncertain="hold")
            sender = Sender(database, issue.id, make_composer(issue.id), network, settings, hooks, clock)
            running = asyncio.create_task(sender.run())
            await asyncio.sleep(after_seconds)
            shown.clear()
            stopped_at = loop.time()
            stop(sender)
            return await running, loop.time() - stopped_at

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        ended, seconds = runner.run(go())
    return ended, books(database, issue), seconds, said, shown


def twice(sender: Sender) -> None:
    sender.stop()
    sender.stop_now()


STOPS = pytest.mark.parametrize(
    ("stop", "at_most_seconds"), [(Sender.stop, STOP_SECONDS + 5), (twice, 5.0)], ids=["once", "twice"]
)


@STOPS
@pytest.mark.parametrize("ehlo", [EHLO, LOCK_STEP], ids=["pipelining", "lock-step"])
@pytest.mark.parametrize(
    ("verb", "uncertain"), [("BODY", CONNECTIONS), ("MAIL", 0), ("RCPT", 0), ("DATA", 0), ("EHLO", 0)]
)
def test_stop_on_a_silent_relay(
    database: Database,
    stop: Callable[[Sender], None],
    at_most_seconds: float,
    ehlo: bytes,
    verb: str,
    uncertain: int,
) -> None:
    script = Script(ehlo=ehlo, answer=silent_at(verb))
    ended, after, seconds, _, _ = send(database, script, stop, after_seconds=5.0)
    assert ended.ending is Ending.STOPPED
    assert (after.uncertain, after.queued) == (uncertain, PEOPLE - uncertain)
    assert seconds <= at_most_seconds


def test_what_has_not_begun_is_released_while_the_last_replies_are_awaited(database: Database) -> None:
    _, _, _, _, shown = send(database, Script(answer=silent_at("BODY")), Sender.stop)
    # With pipelining, each connection also holds the message whose commands left with the body.
    assert any(seen.sending <= 2 * CONNECTIONS and seen.uncertain == 0 for seen in shown)


def test_replies_that_come_in_time_count(database: Database) -> None:
    async def answer_late() -> None:
        await asyncio.sleep(STOP_SECONDS - 5)
        for writer in script.writers:
            writer.write(b"250 2.0.0 queued\r\n")

    answering: list[asyncio.Task[None]] = []

    def stop(sender: Sender) -> None:
        sender.stop()
        answering.append(asyncio.get_running_loop().create_task(answer_late()))

    script = Script(answer=silent_at("BODY"))
    ended, after, seconds, _, _ = send(database, script, stop)
    assert ended.ending is Ending.STOPPED
    assert (after.sent, after.uncertain) == (CONNECTIONS, 0)
    # Messages whose commands left with those bodies get no reply.
    assert seconds < STOP_SECONDS + 1


def test_silent_relay_leaves_no_outcome_unwritten_and_costs_few_commits(database: Database) -> None:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    seen: list[tuple[Books, int]] = []

    def look(sender: Sender) -> None:
        with database.reading() as connection:
            known = issues.named(connection, EDITION.slug)
        seen.append((books(database, known), len(commits)))
        twice(sender)

    send(database, Script(answer=silent_at("BODY", 31)), look, after_seconds=60.0)
    ((known, number),) = seen
    assert known.sent == 30
    # About two looks a second; one at each chance, every 0.15 seconds, would be 400.
    assert 90 < number < 180


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (Script(greeting=SILENCE), "its greeting on 2 connections"),
        (Script(answer=silent_at("EHLO")), "its reply to EHLO on 2 connections"),
        (Script(answer=silent_at("BODY")), "its reply to a message on 2 connections"),
        (Script(answer=silent_at("BODY", PEOPLE)), "its reply to a message"),
    ],
    ids=["greeting", "ehlo", "body", "last body"],
)
def test_run_says_what_it_waits_for(database: Database, script: Script, what: str) -> None:
    _, _, _, said, _ = send(database, script, twice, after_seconds=100.0)
    assert len(said) == 3  # after 10, 30 and 90 seconds
    assert said[0].startswith("no answer for 1")
    assert all(line.endswith(what) for line in said)


def test_first_signal_waits_for_replies_and_the_next_ones_do_not() -> None:
    done: list[str] = []
    on_signal = stop_in_two_steps(lambda: done.append("stop"), lambda: done.append("stop now"), done.append)
    for _ in range(3):
        on_signal()
    said, *stops = done
    assert "waiting up to 30 seconds" in said
    assert stops == ["stop", "stop now", "stop now"]
