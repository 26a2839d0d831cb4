"""A server that speaks before it is asked, too late, in crumbs, or without end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from mailer.database.engine import Database
from mailer.database.tables import DeliveryState
from mailer.delivery.ending import Ending
from mailer.smtp.session import Attempt, End, Fate, SmtpSession, Stage
from tests.delivery.test_hostile import LOCK_STEP, PEOPLE, Met
from tests.smtp.scripted import EHLO, Script, run_async, serving
from tests.smtp.test_session import SHORT, accepted, fates, on, outgoing, run, supply

BOTH = pytest.mark.parametrize("ehlo", [EHLO, LOCK_STEP], ids=["pipelining", "lock-step"])
UNASKED = [b"550 5.7.1 too many messages\r\n", b"450 4.7.1 slow down\r\n", b"421 4.7.0 enough\r\n"]


def behind(verb: str, count: int, extra: bytes) -> Callable[[str, int], bytes | None]:
    """Say something more behind the usual answer to the `count`-th `verb`."""
    usual = b"354 go on\r\n" if verb == "DATA" else b"250 2.0.0 ok\r\n"
    return on(verb, count, usual + extra)


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("extra", UNASKED)
def test_refusal_between_two_messages_is_no_answer_to_the_next(extra: bytes) -> None:
    script = Script(ehlo=LOCK_STEP, answer=behind("BODY", 1, extra))
    end, outcomes = run(script, 2)
    assert end is End.CLOSED
    assert fates(outcomes) == [*accepted(1), (2, Fate.LOST, Stage.MAIL)]
    assert script.recipients() == ["reader1@example.com"]


@pytest.mark.parametrize("extra", UNASKED)
def test_refusal_between_two_messages_stops_nobody(database: Database, extra: bytes) -> None:
    met = Met(database, Script(ehlo=LOCK_STEP, answer=behind("BODY", 2, extra)), connections=1)
    assert met.wrong_rows() == []
    assert met.ended.ending is Ending.FINISHED
    assert met.books.sent == PEOPLE


def test_pipelined_answers_that_are_one_too_many_refuse_nobody(database: Database) -> None:
    # The next message's commands are on their way when the server says this: its three answers shift.
    extra = b"550 5.7.1 too many messages\r\n"
    met = Met(database, Script(answer=behind("BODY", 2, extra)), connections=1)
    assert met.wrong_rows() == []
    assert met.ended.ending is Ending.FINISHED
    assert met.books.sent == PEOPLE


def test_pipelined_goodbye_defers_one_and_replaces_the_connection(database: Database) -> None:
    met = Met(database, Script(answer=behind("BODY", 2, UNASKED[2])), connections=1)
    assert met.wrong_rows() == []
    assert Counter(met.states.values()) == {DeliveryState.SENT: PEOPLE - 1, DeliveryState.DEFERRED: 1}
    assert met.script.connections == 2


@BOTH
def test_everything_in_single_octets_arrives_once(database: Database, ehlo: bytes) -> None:
    met = Met(database, Script(ehlo=ehlo, piece=1))
    assert met.wrong_rows() == []
    assert met.books.sent == PEOPLE


@BOTH
def test_last_answer_that_comes_late_is_waited_for(database: Database, ehlo: bytes) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each message after nine minutes and a half."""
        writer.write(b"220 slow.example\r\n")
        while line := await reader.readline():
            if line.startswith(b"DATA"):
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await asyncio.sleep(570)
            writer.write(ehlo if line.startswith(b"EHLO") else b"250 2.0.0 ok\r\n")
        writer.close()

    met = Met(database, Script(), connections=PEOPLE, handler=hold)
    assert met.books.sent == PEOPLE
    assert met.seconds >= 570


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("early", [b"250 2.0.0 have it\r\n", b"552 5.3.4 too big for us\r\n"])
def test_answer_in_the_middle_of_a_body(early: bytes) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 early.example\r\n")
        await reader.readline()
        writer.write(b"250 early.example\r\n")
        for answer in (b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            await reader.readline()
            writer.write(answer)
        await reader.readexactly(100_000)
        # The rest of the body is never read.
        writer.write(early)
        await over.wait()
        writer.close()

    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        async with serving(Script(), handler=hold) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=SHORT)
            await session.run(supply([outgoing(1, b"x" * 70 + b"\r\n" + b"y" * 16_000_000)]), outcomes.append)
            over.set()
            await session.close()
        return outcomes

    over = asyncio.Event()
    (outcome,) = run_async(go())
    # Nobody can have what has not left; who refuses it may do so early.
    assert outcome.fate is (Fate.LOST if early.startswith(b"2") else Fate.REFUSED)


@BOTH
def test_endless_answer_is_cut_off(database: Database, ehlo: bytes) -> None:
    endless = b"250-" + b"more of it " * 5 + b"\r\n"
    met = Met(database, Script(ehlo=ehlo, answer=on("RCPT", 1, endless * 4_000)), wait=True)
    assert met.wrong_rows() == []
    assert met.books.sent == PEOPLE
