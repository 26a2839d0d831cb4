"""How long each step of a session waits, on a clock of the tests."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from mailer.errors import RelayDownError
from mailer.smtp.session import Attempt, End, Fate, Outgoing, SmtpSession, Stage, Timeouts
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scripted import EHLO, SILENCE, Script, serving
from tests.smtp.test_session import NO_PIPELINING, fates, on, outgoing, supply

EACH = Timeouts(connect=1, greeting=20, mail=300, rcpt=700, data=1_500, block=3_100, final_dot=6_300, quit=80)
SECOND_LOOK_SECONDS = 0.05


async def timed(
    script: Script, *messages: Outgoing, timeouts: Timeouts | None = EACH
) -> tuple[float, End, list[Attempt]]:
    """Return how many seconds a session took, how it ended, and its outcomes."""
    outcomes: list[Attempt] = []
    async with serving(script) as relay:
        session = await SmtpSession.open(relay, client_name="here.example", timeouts=timeouts)
        began = clock().time()
        end = await session.run(supply(messages), outcomes.append)
        seconds = clock().time() - began
        await session.close()
    return seconds, end, outcomes


@pytest.mark.parametrize("ehlo", [EHLO, NO_PIPELINING], ids=["pipelined", "lock-step"])
@pytest.mark.parametrize(
    ("verb", "seconds", "default"),
    [
        ("MAIL", 300, 300),
        ("RCPT", 700, 300),
        ("DATA", 1_500, 120),
        ("BODY", 6_300, 600),
        ("RSET", 6_300, 600),
    ],
)
def test_silence_is_waited_for_as_long_as_its_step_allows(
    ehlo: bytes, verb: str, seconds: float, default: float
) -> None:
    def answer(said: str, nth: int) -> bytes | None:
        return b"451 later\r\n" if (verb, said) == ("RSET", "DATA") else SILENCE if said == verb else None

    fate = {"BODY": Fate.UNCERTAIN, "RSET": Fate.REFUSED}.get(verb, Fate.LOST)
    for timeouts, expected in ((EACH, seconds), (None, default)):
        took, end, outcomes = run_clocked(
            timed(Script(ehlo=ehlo, answer=answer), outgoing(1), timeouts=timeouts)
        )
        assert took == pytest.approx(expected + SECOND_LOOK_SECONDS)
        assert (end, outcomes[0].fate) == (End.CLOSED, fate)


@pytest.mark.parametrize("timeouts", [EACH, None], ids=["ours", "default"])
@pytest.mark.parametrize("verb", ["greeting", "EHLO"])
def test_silence_at_the_greeting_is_waited_for(verb: str, timeouts: Timeouts | None) -> None:
    async def go() -> float:
        script = Script(greeting=SILENCE) if verb == "greeting" else Script(answer=on("EHLO", 1, SILENCE))
        began = clock().time()
        with pytest.raises(RelayDownError):
            await timed(script, timeouts=timeouts)
        return clock().time() - began

    assert run_clocked(go()) == pytest.approx((timeouts or Timeouts()).greeting)


def test_silence_after_quit_is_waited_for_briefly() -> None:
    async def go() -> float:
        script = Script(answer=on("QUIT", 1, SILENCE))
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=EACH)
            began = clock().time()
            await session.close()
            assert session.wire.closed.done()
            return clock().time() - began

    assert run_clocked(go()) == pytest.approx(80 + SECOND_LOOK_SECONDS)


def test_goodbye_is_not_waited_for_once_it_was_said() -> None:
    async def go() -> tuple[float, list[str]]:
        script = Script()
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=EACH)
            began = clock().time()
            await session.close()
            return clock().time() - began, script.commands

    assert run_clocked(go()) == (0, ["EHLO here.example", "QUIT"])


def test_body_that_nobody_reads_is_given_up_after_the_time_for_a_block() -> None:

    async def go() -> tuple[float, End, list[Attempt]]:
        script = Script()
        outcomes: list[Attempt] = []
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=EACH)
            transport = script.writers[0].transport
            assert isinstance(transport, asyncio.Transport)

            def stop_reading() -> bool:
                transport.pause_reading()
                return True

            large = structs.replace(outgoing(1, b"x" * 8_000_000), wire_safe=True)
            began = clock().time()
            end = await session.run(supply([large]), outcomes.append, stop_reading)
            return clock().time() - began, end, outcomes

    seconds, end, outcomes = run_clocked(go())
    assert seconds == pytest.approx(3_100 + SECOND_LOOK_SECONDS)
    # The final dot is still here.
    assert (end, fates(outcomes)) == (End.CLOSED, [(1, Fate.LOST, Stage.MAIL)])


def test_server_that_takes_a_message_before_it_has_it_is_not_believed() -> None:
    async def go() -> tuple[End, list[Attempt], str]:
        script = Script()
        outcomes: list[Attempt] = []
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=EACH)
            writer = script.writers[0]
            assert isinstance(writer.transport, asyncio.Transport)
            transport = writer.transport

            def answer_early() -> bool:
                transport.pause_reading()
                clock().call_later(5, writer.write, b"250 2.0.0 queued\r\n")
                return True

            large = structs.replace(outgoing(1, b"x" * 8_000_000), wire_safe=True)
            end = await session.run(supply([large, outgoing(2)]), outcomes.append, answer_early)
            return end, outcomes, outcomes[0].problem

    end, outcomes, problem = run_clocked(go())
    assert (end, fates(outcomes)) == (End.CLOSED, [(1, Fate.LOST, Stage.MAIL), (2, Fate.LOST, Stage.MAIL)])
    assert problem == "the server accepted a message before receiving it"


def test_reply_is_waited_for_from_when_the_whole_body_has_left() -> None:
    async def go() -> float:
        script = Script(answer=on("BODY", 1, SILENCE))
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, client_name="here.example", timeouts=EACH)
            transport = script.writers[0].transport
            assert isinstance(transport, asyncio.Transport)

            def pause_reading() -> bool:
                transport.pause_reading()
                clock().call_later(2_500, transport.resume_reading)
                return True

            large = structs.replace(outgoing(1, b"x" * 8_000_000), wire_safe=True)
            began = clock().time()
            assert await session.run(supply([large]), lambda attempt: None, pause_reading) is End.CLOSED
            await session.close()
            return clock().time() - began

    assert run_clocked(go()) == pytest.approx(2_500 + 6_300 + SECOND_LOOK_SECONDS)


def test_each_step_has_its_own_time() -> None:
    def answer(verb: str, nth: int) -> bytes | None:
        # A server that takes almost as long as it may at each step.
        clock().advance({"MAIL": 299, "RCPT": 699, "DATA": 1_499, "BODY": 6_299}.get(verb, 0))
        return None

    seconds, end, outcomes = run_clocked(timed(Script(ehlo=NO_PIPELINING, answer=answer), outgoing(1)))
    assert (end, [one.fate for one in outcomes]) == (End.DRAINED, [Fate.ACCEPTED])
    assert seconds == 299 + 699 + 1_499 + 6_299
