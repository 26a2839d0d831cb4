from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import msgspec
import pytest
from msgspec import structs

from mailer.address import Envelope
from mailer.errors import RelayDownError, RelayError
from mailer.smtp.session import Attempt, End, Fate, Outgoing, SmtpSession, Stage, Timeouts
from tests.smtp.scripted import CLOSE, SILENCE, Script, run_async, serving

pytestmark = pytest.mark.usefixtures("each_loop")

SHORT = Timeouts(greeting=2, mail=0.2, rcpt=0.2, data=0.2, block=0.2, final_dot=0.2, quit=0.2)
NO_PIPELINING = b"250-test.example\r\n250 8BITMIME\r\n"


def outgoing(key: int, content: bytes = b"Subject: x\r\n\r\nhello\r\n") -> Outgoing:
    return Outgoing(key, Envelope(f"b.{key}@bounce.example", f"reader{key}@example.com"), [content])


def supply(messages: Iterable[Outgoing]) -> Callable[[], Outgoing | None]:
    waiting: Iterator[Outgoing] = iter(messages)
    return lambda: next(waiting, None)


async def send(script: Script, *messages: Outgoing, timeouts: Timeouts = SHORT) -> tuple[End, list[Attempt]]:
    """Return how one session with the script's server ended, and its outcomes."""
    outcomes: list[Attempt] = []
    async with serving(script) as relay:
        session = await SmtpSession.open(relay, client_name="here.example", timeouts=timeouts)
        end = await session.run(supply(messages), outcomes.append)
        await session.close()
    return end, outcomes


def run(script: Script, count: int = 3, *, timeouts: Timeouts = SHORT) -> tuple[End, list[Attempt]]:
    return run_async(send(script, *map(outgoing, range(1, count + 1)), timeouts=timeouts))


def fates(outcomes: Iterable[Attempt]) -> list[tuple[int, Fate, Stage]]:
    return [(outcome.key, outcome.fate, outcome.stage) for outcome in outcomes]


def on(verb: str, count: int, reply: bytes) -> Callable[[str, int], bytes | None]:
    """Answer the `count`-th `verb` with `reply`."""
    return lambda said, nth: reply if (said, nth) == (verb, count) else None


def accepted(*keys: int) -> list[tuple[int, Fate, Stage]]:
    return [(key, Fate.ACCEPTED, Stage.BODY) for key in keys]


def test_seconds_are_those_the_server_took_to_reply() -> None:
    def answer(verb: str, count: int) -> bytes | None:
        if (verb, count) in {("RCPT", 1), ("BODY", 2)}:
            time.sleep(0.05)
        return b"550 5.1.1 unknown\r\n" if (verb, count) == ("RCPT", 1) else None

    # Its first body is the empty one of the message refused at RCPT.
    _, outcomes = run(Script(answer=answer), timeouts=replace(SHORT, final_dot=5, rcpt=5))
    assert [outcome.seconds >= 0.05 for outcome in outcomes] == [True, True, False]


def test_body_and_next_commands_are_sent_in_one_write() -> None:
    script = Script()
    end, outcomes = run(script)
    assert end is End.DRAINED
    assert fates(outcomes) == accepted(1, 2, 3)
    # EHLO, the first commands, a body and commands, the same, the last body, QUIT.
    assert len(script.reads) == 6
    assert b"\r\n.\r\nMAIL FROM:<b.2@bounce.example> SIZE=21 RET=HDRS\r\nRCPT" in script.reads[2]
    assert script.reads[2].endswith(b"DATA\r\n")
    assert script.reads[4].endswith(b"hello\r\n.\r\n")


def test_outcome_carries_the_reply() -> None:
    script = Script(answer=on("BODY", 1, b"250-2.0.0 Ok:\r\n250 2.0.0 queued as 4F\r\n"))
    _, outcomes = run(script, 1)
    reply = outcomes[0].reply
    assert reply is not None
    assert (reply.code, reply.enhanced, reply.text) == (250, "2.0.0", "Ok: queued as 4F")


def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    script = Script(ehlo=NO_PIPELINING)
    end, outcomes = run(script)
    assert end is End.DRAINED
    assert fates(outcomes) == accepted(1, 2, 3)
    assert len(script.reads) == 1 + 3 * 4 + 1


def test_session_goes_on_after_it_was_drained() -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            for key in (1, 2):
                assert await session.run(supply([outgoing(key)]), outcomes.append) is End.DRAINED
                assert session.usable
            await session.close()
        return outcomes

    script = Script()
    assert fates(run_async(go())) == accepted(1, 2)
    assert script.connections == 1


@pytest.mark.parametrize("ehlo", [Script().ehlo, NO_PIPELINING], ids=["pipelined", "lock-step"])
@pytest.mark.parametrize(
    ("verb", "stage"),
    [("MAIL", Stage.MAIL), ("RCPT", Stage.RCPT), ("DATA", Stage.DATA), ("BODY", Stage.BODY)],
)
@pytest.mark.parametrize("reply", [b"400 odd\r\n", b"422 odd\r\n", b"451 4.7.1 later\r\n", b"599 odd\r\n"])
def test_refusal_touches_one_message(ehlo: bytes, verb: str, stage: Stage, reply: bytes) -> None:
    def answer(said: str, nth: int) -> bytes | None:
        # After a refused RCPT a server refuses DATA as well.
        if said == "DATA" and nth == 2 and verb in ("MAIL", "RCPT") and ehlo != NO_PIPELINING:
            return b"554 5.5.1 no valid recipients\r\n"
        return reply if (said, nth) == (verb, 2) else None

    end, outcomes = run(Script(ehlo=ehlo, answer=answer))
    assert end is End.DRAINED
    assert fates(outcomes) == [*accepted(1), (2, Fate.REFUSED, stage), *accepted(3)]
    assert outcomes[1].reply is not None
    assert outcomes[1].reply.code == int(reply[:3])


def test_data_accepted_after_a_refused_recipient_gets_a_lone_dot() -> None:
    script = Script(answer=on("RCPT", 1, b"550 5.1.1 no such user\r\n"))
    end, outcomes = run(script, 2)
    assert end is End.DRAINED
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.RCPT), *accepted(2)]
    assert script.bodies == [b"", b"Subject: x\r\n\r\nhello\r\n"]


@pytest.mark.parametrize("mail", [b"250 2.1.0 ok\r\n", b"200 ok\r\n"])
def test_refused_data_is_reset_before_the_next_message(mail: bytes) -> None:
    script = Script(
        answer=lambda verb, nth: {("DATA", 1): b"451 4.3.0 not now\r\n", ("MAIL", 1): mail}.get((verb, nth))
    )
    _, outcomes = run(script, 2)
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.DATA), *accepted(2)]
    assert "RSET" in script.commands


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_connection_lost_before_the_body_can_be_sent_again(verb: str) -> None:
    end, outcomes = run(Script(answer=on(verb, 2, CLOSE)))
    assert end is End.CLOSED
    # The second message's commands left with the first body; the third was never taken.
    assert fates(outcomes) == [*accepted(1), (2, Fate.LOST, Stage.MAIL)]


def test_connection_lost_after_the_final_dot_is_uncertain() -> None:
    end, outcomes = run(Script(answer=on("BODY", 1, CLOSE)))
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.UNCERTAIN, Stage.BODY), (2, Fate.LOST, Stage.MAIL)]
    assert "closed the connection" in outcomes[0].problem


def test_connection_lost_in_the_middle_of_a_body_can_be_sent_again() -> None:
    async def go() -> list[Attempt]:
        async def stop_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 x\r\n")
            await reader.readuntil(b"\r\n")
            writer.write(script.ehlo)
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
            await reader.readexactly(1000)
            writer.transport.abort()

        server = await asyncio.start_server(stop_reading, "127.0.0.1", 0)
        async with server, serving(script) as relay:
            relay = msgspec.structs.replace(relay, port=server.sockets[0].getsockname()[1])
            session = await SmtpSession.open(relay, timeouts=Timeouts())
            outcomes: list[Attempt] = []
            large = outgoing(1, b"x" * 70 + b"\r\n" * 5_000_000)
            assert await session.run(supply([large]), outcomes.append) is End.CLOSED
            return outcomes

    script = Script(ehlo=b"250-x\r\n250 PIPELINING\r\n")
    assert fates(run_async(go())) == [(1, Fate.LOST, Stage.MAIL)]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "BODY"])
def test_421_defers_the_message_and_ends_the_session(verb: str) -> None:
    end, outcomes = run(Script(answer=on(verb, 1, b"421 4.7.0 too many messages\r\n")), 1)
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage[verb])]


def test_message_after_a_421_is_sent_again() -> None:
    end, outcomes = run(Script(answer=on("BODY", 1, b"421 4.7.0 closing\r\n")))
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.BODY), (2, Fate.LOST, Stage.MAIL)]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_silence_before_the_body_can_be_sent_again(verb: str) -> None:
    end, outcomes = run(Script(answer=on(verb, 1, SILENCE), ehlo=NO_PIPELINING), 1)
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.LOST, Stage.MAIL)]
    assert "did not answer in time" in outcomes[0].problem


def test_silence_after_the_final_dot_is_uncertain() -> None:
    end, outcomes = run(Script(answer=on("BODY", 1, SILENCE)), 1)
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.UNCERTAIN, Stage.BODY)]


def test_final_dot_is_waited_for_longer_than_commands() -> None:
    def answer(verb: str, nth: int) -> bytes | None:
        return SILENCE if verb == "BODY" else None

    async def go() -> list[Attempt]:
        script = Script(answer=answer)
        outcomes: list[Attempt] = []
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, timeouts=replace(SHORT, final_dot=30))
            task = asyncio.create_task(session.run(supply([outgoing(1)]), outcomes.append))
            await asyncio.sleep(0.5)
            script.writers[0].write(b"250 at last\r\n")
            assert await task is End.DRAINED
        return outcomes

    assert fates(run_async(go())) == accepted(1)


def test_replies_may_come_octet_by_octet() -> None:
    script = Script(piece=1, answer=on("RCPT", 2, b"550-5.1.1 no\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n"))
    end, outcomes = run(script, 3, timeouts=Timeouts())
    assert end is End.DRAINED
    assert fates(outcomes) == [*accepted(1), (2, Fate.REFUSED, Stage.RCPT), *accepted(3)]
    assert str(outcomes[1].reply) == "550 5.1.1 no such user"


@pytest.mark.parametrize(
    "reply",
    [
        b"250-" + b"x" * 100_000 + b"\r\n250 ok\r\n",
        b"250-more\r\n" * 10_000 + b"250 ok\r\n",
        b"x" * 100_000,
        b"no code\r\n",
        b"\r\n",
        b"2500 ok\r\n",
        b"\xff\xfe\x00\r\n",
        b"100 go on\r\n",
        b"354 more\r\n",
    ],
    ids=["long line", "many lines", "no line end", "text", "empty", "four digits", "binary", "1yz", "3yz"],
)
@pytest.mark.parametrize(("verb", "fate"), [("RCPT", Fate.LOST), ("BODY", Fate.UNCERTAIN)])
def test_nonsense_ends_the_session_and_settles_by_how_far_it_was(reply: bytes, verb: str, fate: Fate) -> None:
    end, outcomes = run(Script(answer=on(verb, 1, reply)), 1)
    assert end is End.CLOSED
    assert [outcome.fate for outcome in outcomes] == [fate]
    assert outcomes[0].problem


def test_250_for_data_sends_no_body() -> None:
    script = Script(answer=on("DATA", 1, b"250 already done\r\n"))
    end, outcomes = run(script, 2)
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.LOST, Stage.DATA)]
    assert script.bodies == []


def test_answer_that_was_not_asked_for_sends_no_body() -> None:
    script = Script(answer=on("DATA", 1, b"354 go on\r\n250 2.0.0 queued\r\n"))
    end, outcomes = run(script, 1)
    assert end is End.CLOSED
    assert fates(outcomes) == [(1, Fate.LOST, Stage.MAIL)]
    assert script.accepted == []


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
def test_answer_that_was_not_asked_for_after_a_refusal_ends_the_session(verb: str) -> None:
    refused = b"550 5.7.1 no\r\n" if verb == "DATA" else b"550 5.1.1 no\r\n354 go on\r\n"
    script = Script(answer=on(verb, 1, refused + b"250 2.0.0 ok\r\n"))
    end, outcomes = run(script, 2)
    assert end is End.CLOSED
    # The second message's commands would get the answers to others.
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage[verb]), (2, Fate.LOST, Stage.MAIL)]
    assert [line[:4] for line in script.commands] == ["EHLO", "MAIL", "RCPT", "DATA"]


def test_goodbye_between_two_runs_is_noticed() -> None:
    async def go() -> None:
        script = Script()
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            script.writers[0].write(b"421 4.4.2 idle for too long\r\n")
            await asyncio.sleep(0.1)
            assert not session.usable
            await session.close()
            assert session.wire.closed.done()
            assert "QUIT" not in script.commands

    run_async(go())


def test_close_after_twenty_messages_loses_nothing() -> None:
    async def go() -> tuple[list[Attempt], int]:
        script = Script(answer=lambda verb, nth: CLOSE if (verb, nth % 20) == ("MAIL", 0) else None)
        waiting = [outgoing(key) for key in range(1, 101)]
        done: list[Attempt] = []

        def settle(outcome: Attempt) -> None:
            if outcome.fate is Fate.LOST:
                waiting.insert(0, outgoing(outcome.key))
            else:
                done.append(outcome)

        async with serving(script) as relay:
            while waiting:
                session = await SmtpSession.open(relay, timeouts=SHORT)
                await session.run(lambda: waiting.pop(0) if waiting else None, settle)
                await session.close()
        return done, len(script.accepted)

    done, received = run_async(go())
    assert fates(done) == accepted(*range(1, 101))
    assert received == 100


def test_too_large_message_is_refused_before_anything_is_said() -> None:
    script = Script(ehlo=b"250-x\r\n250-PIPELINING\r\n250 SIZE 1000\r\n")
    _, outcomes = run_async(send(script, outgoing(1, b"x" * 1001), outgoing(2, b"x" * 1000)))
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.LOCAL), *accepted(2)]
    assert outcomes[0].reply is not None
    assert (outcomes[0].reply.code, outcomes[0].reply.enhanced) == (552, "5.3.4")
    assert script.counts["MAIL"] == 1


@pytest.mark.parametrize(
    ("envelope", "offered", "code"),
    [
        (Envelope("a@example.org", "b@example.com"), "", 0),
        (Envelope("a@example.org", "josé@example.com"), "", 553),
        (Envelope("josé@example.org", "b@example.com"), "", 553),
        (Envelope("a@example.org", "b@example.com", smtputf8=True), "", 553),
        (Envelope("a@example.org", "b@example.com", smtputf8=True), "SMTPUTF8", 0),
        (Envelope("a@example.org", "josé@example.com", smtputf8=True), "SMTPUTF8", 0),
        (Envelope("a@example.org", "b\n@example.com"), "SMTPUTF8", 553),
    ],
)
def test_address_that_the_relay_cannot_take_is_refused(envelope: Envelope, offered: str, code: int) -> None:
    async def go() -> int:
        async with serving(Script(ehlo=f"250-x\r\n250-8BITMIME\r\n250 {offered}\r\n".encode())) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            refusal = session.refusal(structs.replace(outgoing(1), envelope=envelope))
            await session.close()
            return 0 if refusal is None else refusal.code

    assert run_async(go()) == code


def test_address_beyond_ascii_needs_smtputf8() -> None:
    script = Script()
    jose = structs.replace(outgoing(1), envelope=Envelope("a@example.org", "josé@example.com", smtputf8=True))
    _, outcomes = run_async(send(script, jose, outgoing(2)))
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.LOCAL), *accepted(2)]
    assert script.recipients() == ["reader2@example.com"]
    script = Script(ehlo=b"250-x\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 SMTPUTF8\r\n")
    _, outcomes = run_async(send(script, jose))
    assert fates(outcomes) == accepted(1)
    assert "MAIL FROM:<a@example.org> BODY=8BITMIME SMTPUTF8" in script.commands
    assert script.recipients() == ["josé@example.com"]


def test_control_characters_never_reach_the_wire() -> None:
    script = Script()
    evil = structs.replace(outgoing(1), envelope=Envelope("a@example.org", "x@y.example>\r\nRSET"))
    _, outcomes = run_async(send(script, evil))
    assert fates(outcomes) == [(1, Fate.REFUSED, Stage.LOCAL)]
    assert script.counts == {"EHLO": 1, "QUIT": 1}


def test_envelope_identifier_is_sent_as_xtext() -> None:
    script = Script()
    run_async(send(script, structs.replace(outgoing(1), envid="a+b=c d")))
    assert "MAIL FROM:<b.1@bounce.example> SIZE=21 RET=HDRS ENVID=a+2Bb+3Dc+20d" in script.commands


def test_exception_of_the_source_settles_what_was_taken() -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        script = Script()

        def source() -> Outgoing:
            if script.counts.get("MAIL"):
                raise LookupError("no more")
            return outgoing(1)

        async with serving(script) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            with pytest.raises(LookupError):
                await session.run(source, outcomes.append)
        return outcomes

    assert fates(run_async(go())) == [(1, Fate.LOST, Stage.MAIL)]


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_run_that_ends_while_it_settles_settles_the_rest_once(how: str) -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []

        def settle(attempt: Attempt) -> None:
            outcomes.append(attempt)
            if attempt.key == 2 and how == "cancelled":
                task.cancel()
            elif attempt.key == 2:
                raise RuntimeError("the books are full")

        async with serving(Script()) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            task = asyncio.create_task(session.run(supply(map(outgoing, range(1, 6))), settle))
            with pytest.raises(asyncio.CancelledError if how == "cancelled" else RuntimeError):
                await task
            assert not session.usable
            await session.close()
        return outcomes

    assert fates(run_async(go())) == [*accepted(1, 2), (3, Fate.LOST, Stage.MAIL)]


def test_cancelling_settles_what_was_taken() -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        script = Script(answer=on("BODY", 1, SILENCE))
        async with serving(script) as relay:
            session = await SmtpSession.open(relay)
            task = asyncio.create_task(session.run(supply(map(outgoing, (1, 2, 3))), outcomes.append))
            await script.body_came.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return outcomes

    assert fates(run_async(go())) == [(1, Fate.UNCERTAIN, Stage.BODY), (2, Fate.LOST, Stage.MAIL)]


@pytest.mark.parametrize(
    ("greeting", "answer"),
    [
        (SILENCE, None),
        (CLOSE, None),
        (b"421 4.7.0 busy\r\n", None),
        (b"450 busy\r\n", None),
        (b"garbage\r\n", None),
        (b"220-" + b"x" * 100_000, None),
        (b"220 test.example ESMTP\r\n", on("EHLO", 1, CLOSE)),
        (b"220 test.example ESMTP\r\n", on("EHLO", 1, SILENCE)),
    ],
    ids=["silence", "close", "421", "450", "garbage", "long", "closed at EHLO", "silent at EHLO"],
)
def test_relay_that_does_not_greet_is_down(
    greeting: bytes, answer: Callable[[str, int], bytes | None] | None
) -> None:
    script = Script(greeting=greeting, answer=answer or (lambda verb, nth: None))
    with pytest.raises(RelayDownError, match=r"127\.0\.0\.1:\d+: "):
        run_async(send(script, timeouts=replace(SHORT, greeting=0.3)))


def test_relay_that_refuses_connections_is_down() -> None:
    async def go() -> None:
        async with serving(Script()) as relay:
            port = relay.port
        await SmtpSession.open(msgspec.structs.replace(relay, port=port), timeouts=SHORT)

    with pytest.raises(RelayDownError, match="cannot be reached"):
        run_async(go())


def test_relay_that_never_takes_our_mail_is_an_error() -> None:
    with pytest.raises(RelayError, match="554 'no mail from you'") as caught:
        run_async(send(Script(greeting=b"554 no mail from you\r\n")))
    assert not isinstance(caught.value, RelayDownError)


def test_server_without_ehlo_is_greeted_with_helo() -> None:
    script = Script(answer=on("EHLO", 1, b"502 what?\r\n"))
    _, outcomes = run(script, 1)
    assert fates(outcomes) == accepted(1)
    assert "HELO here.example" in script.commands


@pytest.mark.parametrize("ehlo", [Script().ehlo, NO_PIPELINING], ids=["pipelined", "lock-step"])
@pytest.mark.parametrize(
    ("verb", "stage", "success", "otherwise"),
    [
        ("MAIL", Stage.MAIL, range(200, 300), Fate.LOST),
        ("RCPT", Stage.RCPT, range(200, 300), Fate.LOST),
        ("DATA", Stage.DATA, range(354, 355), Fate.LOST),
        ("BODY", Stage.BODY, range(200, 300), Fate.UNCERTAIN),
    ],
)
def test_codes_mean_what_their_hundred_says(
    ehlo: bytes, verb: str, stage: Stage, success: range, otherwise: Fate
) -> None:
    for code in (199, 200, 299, 300, 353, 354, 355, 399, 400, 599, 600):
        end, outcomes = run(Script(ehlo=ehlo, answer=on(verb, 1, b"%d odd\r\n" % code)), 2)
        if code in success:
            assert (end, fates(outcomes)) == (End.DRAINED, accepted(1, 2)), code
        else:
            fate = Fate.REFUSED if 400 <= code < 600 else otherwise
            assert fates(outcomes)[0] == (1, fate, stage), code
            assert fate is Fate.REFUSED or end is End.CLOSED, code


STEPS = ["a connection", "its greeting", "its reply to EHLO"]


def test_steps_of_opening_are_named_in_turn() -> None:
    async def go() -> list[str]:
        said: list[str] = []
        async with serving(Script()) as relay:
            await (await SmtpSession.open(relay, timeouts=SHORT, awaiting=said.append)).close()
        return said

    assert run_async(go()) == STEPS


@pytest.mark.parametrize(
    ("replies", "outcome", "end", "after"),
    [
        # MAIL, RCPT and DATA; what becomes of the message; then what was said in the end.
        ((250, 550, 199), (Fate.REFUSED, Stage.RCPT), End.DRAINED, ["RSET"]),
        ((250, 550, 200), (Fate.LOST, Stage.DATA), End.CLOSED, []),
        ((250, 550, 250), (Fate.LOST, Stage.DATA), End.CLOSED, []),
        ((250, 550, 299), (Fate.LOST, Stage.DATA), End.CLOSED, []),
        ((250, 550, 300), (Fate.REFUSED, Stage.RCPT), End.CLOSED, []),
        ((250, 550, 353), (Fate.REFUSED, Stage.RCPT), End.CLOSED, []),
        ((250, 550, 355), (Fate.REFUSED, Stage.RCPT), End.CLOSED, []),
        ((250, 550, 399), (Fate.REFUSED, Stage.RCPT), End.CLOSED, []),
        ((250, 550, 400), (Fate.REFUSED, Stage.RCPT), End.DRAINED, ["RSET"]),
        ((550, 250, 354), (Fate.REFUSED, Stage.MAIL), End.CLOSED, []),
        ((550, 250, 250), (Fate.LOST, Stage.DATA), End.CLOSED, []),
        ((550, 250, 550), (Fate.REFUSED, Stage.MAIL), End.DRAINED, []),
        ((550, 550, 550), (Fate.REFUSED, Stage.MAIL), End.DRAINED, []),
        ((200, 550, 550), (Fate.REFUSED, Stage.RCPT), End.DRAINED, ["RSET"]),
        ((250, 250, 550), (Fate.REFUSED, Stage.DATA), End.DRAINED, ["RSET"]),
        ((422, 422, 422), (Fate.REFUSED, Stage.MAIL), End.DRAINED, []),
    ],
)
def test_what_follows_on_the_replies_to_pipelined_commands(
    replies: tuple[int, int, int], outcome: tuple[Fate, Stage], end: End, after: list[str]
) -> None:
    said = dict(zip(("MAIL", "RCPT", "DATA"), replies, strict=True))
    script = Script(answer=lambda verb, nth: b"%d odd\r\n" % said[verb] if verb in said else None)
    ended, outcomes = run(script, 1)
    assert (ended, fates(outcomes)) == (end, [(1, *outcome)])
    goodbye = ["QUIT"] if end is End.DRAINED else []
    assert [line[:4] for line in script.commands] == ["EHLO", "MAIL", "RCPT", "DATA", *after, *goodbye]
    assert script.bodies == ([b""] if 354 in replies and end is End.DRAINED else [])


@pytest.mark.parametrize(
    ("refused", "code", "said"),
    [
        ("MAIL", 300, ["MAIL"]),
        ("MAIL", 550, ["MAIL", "QUIT"]),
        ("RCPT", 300, ["MAIL", "RCPT"]),
        ("RCPT", 550, ["MAIL", "RCPT", "RSET", "QUIT"]),
        ("DATA", 300, ["MAIL", "RCPT", "DATA"]),
        ("DATA", 550, ["MAIL", "RCPT", "DATA", "RSET", "QUIT"]),
    ],
)
def test_without_pipelining_nothing_is_said_after_a_reply_that_is_no_success(
    refused: str, code: int, said: list[str]
) -> None:
    script = Script(ehlo=NO_PIPELINING, answer=on(refused, 1, b"%d odd\r\n" % code))
    run(script, 1)
    assert [line[:4] for line in script.commands] == ["EHLO", *said]


def test_without_pipelining_a_second_reply_ends_the_session() -> None:
    script = Script(ehlo=NO_PIPELINING, answer=on("MAIL", 1, b"250 ok\r\n250 ok\r\n"))
    end, outcomes = run(script, 1)
    assert (end, fates(outcomes)) == (End.CLOSED, [(1, Fate.LOST, Stage.MAIL)])
    assert outcomes[0].problem == "the server spoke out of turn, or closed the connection"
    assert [line[:4] for line in script.commands] == ["EHLO", "MAIL"]


@pytest.mark.parametrize("ehlo", [Script().ehlo, NO_PIPELINING], ids=["pipelined", "lock-step"])
def test_session_that_may_not_send_is_over_before_the_body(ehlo: bytes) -> None:
    async def go() -> None:
        outcomes: list[Attempt] = []
        script = Script(ehlo=ehlo)
        async with serving(script) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            end = await session.run(supply([outgoing(1), outgoing(2)]), outcomes.append, lambda: False)
            assert (end, session.usable) == (End.CLOSED, False)
            await session.close()
        assert fates(outcomes) == [(1, Fate.LOST, Stage.MAIL)]
        assert outcomes[0].problem == "the run may not send at present"
        assert script.bodies == []
        assert [line[:4] for line in script.commands] == ["EHLO", "MAIL", "RCPT", "DATA"]

    run_async(go())


@pytest.mark.parametrize("how", ["settling", "source"])
def test_run_that_is_cancelled_by_its_own_last_call_ends_quietly(how: str) -> None:
    async def go() -> list[Attempt]:
        outcomes: list[Attempt] = []
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))

        def settle(attempt: Attempt) -> None:
            outcomes.append(attempt)
            if how == "settling":
                task.cancel()

        waiting = supply([outgoing(1)])

        def source() -> Outgoing | None:
            found = waiting()
            if found is None and how == "source":
                task.cancel()
            return found

        async with serving(Script()) as relay:
            session = await SmtpSession.open(relay, timeouts=SHORT)
            task = asyncio.create_task(session.run(source, settle))
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert (faults, session.usable) == ([], False)
            await session.close()
        return outcomes

    # With the source, what was on its way is uncertain.
    ends = {"settling": Fate.ACCEPTED, "source": Fate.UNCERTAIN}
    assert fates(run_async(go())) == [(1, ends[how], Stage.BODY)]


def test_message_is_made_safe_unless_it_is_said_to_be() -> None:
    script = Script()
    run_async(send(script, outgoing(1, b".a\r\n"), structs.replace(outgoing(2, b"..b\r\n"), wire_safe=True)))
    assert script.bodies == [b"..a\r\n", b"..b\r\n"]
