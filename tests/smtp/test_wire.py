from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from mailer.address import Envelope
from mailer.smtp.session import Attempt, Fate, Outgoing, Stage, wire_safe
from mailer.smtp.wire import RawReply, Reply, ReplyReader, Wire, WireError
from tests.smtp.clocked import clock, run_clocked
from tests.smtp.scripted import run_async

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30)
replies = st.lists(st.tuples(st.integers(200, 599), st.lists(texts, min_size=1, max_size=4)), max_size=5)


def written(said: list[tuple[int, list[str]]], end: bytes) -> bytes:
    """Return the replies as a server writes them."""
    lines = [
        f"{code}{' ' if place == len(text) - 1 else '-'}{line}".encode() + end
        for code, text in said
        for place, line in enumerate(text)
    ]
    return b"".join(lines)


@given(said=replies, end=st.sampled_from([b"\r\n", b"\n"]), cuts=st.sets(st.integers(0, 400)))
def test_replies_are_read_whatever_pieces_they_come_in(
    said: list[tuple[int, list[str]]], end: bytes, cuts: set[int]
) -> None:
    raw = written(said, end)
    reader, edges = ReplyReader(), [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    got = [reply for start, stop in itertools.pairwise(edges) for reply in reader.feed(raw[start:stop])]
    assert [reply.code for reply in got] == [code for code, _ in said]
    assert [[line.rstrip(b"\r").decode() for line in reply.lines] for reply in got] == [
        text for _, text in said
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_replies_or_an_error(raw: bytes) -> None:
    try:
        got = ReplyReader().feed(raw)
    except WireError:
        got = []
    assert all(0 <= reply.code <= 999 and len(reply.read().text) <= len(raw) for reply in got)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"250 2.1.5 ok\r\n", (250, "2.1.5", "ok")),
        (b"250\r\n", (250, "", "")),
        (
            b"550-5.1.1 The account\r\n550 5.1.1 does not exist\r\n",
            (550, "5.1.1", "The account does not exist"),
        ),
        (b"421 4.7.28\r\n", (421, "4.7.28", "")),
        (b"552 5.2.2.1 odd\r\n", (552, "", "5.2.2.1 odd")),
        (b"450 10.0.0.1 busy\r\n", (450, "", "10.0.0.1 busy")),
        (b"550 caf\xc3\xa9 \xff\r\n", (550, "", "café \ufffd")),
        (b"550 5.1.1 no\x00such\x1b[31m user\xe2\x80\xaek.\r\n", (550, "5.1.1", "no such [31m user k.")),
    ],
)
def test_enhanced_code_is_separated_from_the_text(raw: bytes, said: tuple[int, str, str]) -> None:
    reply = ReplyReader().feed(raw)[0].read()
    assert (reply.code, reply.enhanced, reply.text) == said


def test_endless_replies_are_cut_off() -> None:
    with pytest.raises(WireError, match="a reply longer than"):
        ReplyReader().feed(b"250-x\r\n" * 65_536)
    reader = ReplyReader()
    with pytest.raises(WireError, match="a line longer than"):
        for _ in range(8_192):
            reader.feed(b"2 ")


def dot_stuffed(content: bytes) -> bytes:
    """Return what RFC 5321 section 4.5.2 does to lines, written the long way."""
    normal = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = normal.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)


@given(st.text("ab.\r\n", max_size=40).map(str.encode))
def test_content_is_made_safe_for_the_wire(content: bytes) -> None:
    # An empty content is an empty line: DATA ends after a line end.
    assert wire_safe(content) == (dot_stuffed(content) or b"\r\n")


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, socket.socket]]:
    """Yield a wire and the server's end of it."""
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        yield Wire(transport), theirs


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize(("answer", "expected"), [(b"250 2.0.0 queued\r\n", "250"), (b"", "in time")])
def test_reply_that_came_while_the_process_was_stopped_counts(answer: bytes, expected: str) -> None:
    async def main() -> str:
        async with connected() as (wire, theirs):
            waiting = asyncio.create_task(wire.reply(0.2))
            await asyncio.sleep(0.01)
            threading.Timer(0.1, theirs.sendall, [answer]).start()
            time.sleep(0.5)  # noqa: ASYNC251 - as if the process were stopped
            try:
                return str((await waiting).code)
            except WireError as error:
                return str(error)
            finally:
                await wire.close()

    assert expected in run_async(main())


@pytest.mark.usefixtures("each_loop")
def test_timer_that_fires_before_a_reply_is_read_looks_once_more() -> None:
    async def main() -> int:
        async with connected() as (wire, theirs):
            waiting = asyncio.create_task(wire.reply(0.05))
            await asyncio.sleep(0.01)
            theirs.sendall(b"250 2.0.0 queued\r\n")
            time.sleep(0.1)  # noqa: ASYNC251 - as if the process were stopped
            # Some versions of uvloop run timers first.
            assert wire._timer is not None
            wire._timer.cancel()
            wire._tick()
            return (await waiting).code

    assert run_async(main()) == 250


@pytest.mark.usefixtures("each_loop")
def test_reply_that_is_awaited_when_the_connection_is_dropped_is_an_error_at_once() -> None:
    async def main() -> str:
        async with connected() as (wire, _):
            waiting = asyncio.create_task(wire.reply(60))
            await asyncio.sleep(0.01)
            wire.abort()
            with pytest.raises(WireError) as error:
                await waiting
            return str(error.value)

    assert run_async(main()) == "the connection was closed"


@pytest.mark.usefixtures("each_loop")
def test_server_that_speaks_no_smtp_is_hung_up_on() -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        async with connected() as (wire, theirs):
            theirs.setblocking(False)
            theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n")
            with pytest.raises(WireError, match="not an SMTP reply"):
                await wire.reply(60)
            async with asyncio.timeout(10):
                return await loop.sock_recv(theirs, 1)

    assert run_async(main()) == b""


@pytest.mark.usefixtures("each_loop")
@pytest.mark.parametrize("more", [0, 1])
def test_replies_that_nobody_reads_are_bounded(more: int) -> None:
    async def main() -> bool:
        ours, theirs = socket.socketpair()
        with theirs:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            wire = Wire(transport)
            theirs.sendall(b"250 ok\r\n" * (32 + more))
            for _ in range(1_000):
                if not wire.usable:
                    break
                await asyncio.sleep(0.01)
            return transport.is_closing()

    assert run_async(main()) is bool(more)


def test_reply_that_ends_like_an_earlier_longer_one_is_its_own() -> None:
    got = ReplyReader().feed(b"250-first\r\n250 ok\r\n250 ok\r\n250-second\r\n250 ok\r\n")
    assert [[line.rstrip() for line in reply.lines] for reply in got] == [
        [b"first", b"ok"],
        [b"ok"],
        [b"second", b"ok"],
    ]


def test_first_eight_replies_of_one_line_are_parsed_once() -> None:
    reader = ReplyReader()
    said = [b"250 2.0.0 reply %d\r\n" % number for number in range(9)]
    first = [reader.feed(line)[0] for line in said]
    again = [reader.feed(line)[0] for line in said]
    assert first == again
    assert [one is other for one, other in zip(first, again, strict=True)] == [True] * 8 + [False]


@pytest.mark.parametrize("earlier", [b"", b"220 an earlier one\r\n"])
@pytest.mark.parametrize("more", [0, 1])
def test_reply_and_line_may_be_just_as_long_as_the_limits(more: int, earlier: bytes) -> None:
    refused = pytest.raises(WireError) if more else contextlib.nullcontext()
    line = b"250-" + b"x" * 123 + b"\r"
    reader = ReplyReader()
    reader.feed(earlier)
    with refused:
        # Of a line end, only the line feed does not count.
        reader.feed(b"250-" + b"x" * (123 + more) + b"\r\n" + (line + b"\n") * (65_536 // len(line) - 1))
    with refused:
        ReplyReader().feed(b"2" * (8_192 + more))


def test_long_text_is_cut() -> None:
    reply = ReplyReader().feed(b"250 2.0.0 " + b"x" * 2_001 + b"\r\n")[0].read()
    assert reply.text == "x" * 2_000


@pytest.mark.parametrize(
    "value",
    [
        Reply(250, "2.0.0", "ok"),
        RawReply(250, [b"ok"]),
        Outgoing(1, Envelope("a@example.org", "b@example.com"), [b"x"]),
        Attempt(1, Fate.ACCEPTED, Stage.BODY),
    ],
)
def test_what_is_handed_on_does_not_change(value: Struct) -> None:
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, value.__struct_fields__[0], 2)


class Recorded(asyncio.Transport):
    """A transport that notes in which way it gets its data."""

    def __init__(self, *, tls: bool) -> None:
        super().__init__({"ssl_object": object()} if tls else {})
        self.calls: list[object] = []

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None:
        self.calls.append(data)

    def writelines(self, list_of_data: object) -> None:
        self.calls.append(list_of_data)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_only_uvloop_without_tls_gathers_the_parts(loop: object, tls: bool) -> None:
    async def main() -> list[object]:
        transport = Recorded(tls=tls)
        Wire(transport).write(b"a", b"b")
        return transport.calls

    with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        calls = runner.run(main())
    assert calls == ([(b"a", b"b")] if loop is uvloop.new_event_loop and not tls else [b"ab"])


MUCH = b"x" * 4_000_000
"""More than the system takes when nobody reads."""


@asynccontextmanager
async def clocked_pair() -> AsyncIterator[tuple[Wire, asyncio.Transport, socket.socket]]:
    """Yield a wire, its transport and the server's end, on the loop whose clock is ours."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with theirs:
        transport, _ = await clock().create_connection(asyncio.Protocol, sock=ours)
        wire = Wire(transport)
        yield wire, transport, theirs
        wire.abort()


async def all_read(theirs: socket.socket) -> int:
    """Return how many octets come until the connection ends."""
    octets = 0
    while data := await clock().sock_recv(theirs, 1 << 20):
        octets += len(data)
    return octets


def test_server_that_says_nothing_is_hung_up_on_after_the_patience_and_a_second_look() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, transport, theirs):
            began = clock().time()
            with pytest.raises(WireError, match="did not answer in time"):
                await wire.reply(300)
            assert clock().time() - began == pytest.approx(300.05)
            assert transport.is_closing()
            assert await clock().sock_recv(theirs, 1) == b""
            # What is asked for later fails at once.
            with pytest.raises(WireError, match="did not answer in time"):
                await wire.reply(300)
            assert clock().time() - began == pytest.approx(300.05)

    run_clocked(main())


def test_patience_counts_from_the_last_progress_of_a_write() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, transport, theirs):
            wire.write(MUCH)
            assert wire.paused
            waiting = asyncio.create_task(wire.reply(10))
            began, octets, slices = clock().time(), 0, 0
            while wire.paused:
                octets += len(await clock().sock_recv(theirs, 1 << 20))
                slices += 1
                await asyncio.sleep(9)
            assert slices * 9 > 2 * 10
            theirs.sendall(b"250 at last\r\n")
            assert (await waiting).code == 250
            assert clock().time() - began < 9 * slices + 10
            assert not transport.is_closing()

    run_clocked(main())


def test_server_that_stops_reading_is_hung_up_on_once_the_patience_is_over() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, _, theirs):
            wire.write(MUCH)
            waiting = asyncio.create_task(wire.reply(10))
            await asyncio.sleep(9)
            await clock().sock_recv(theirs, 1 << 20)
            read_at = clock().time()
            with pytest.raises(WireError, match="did not answer in time"):
                await waiting
            # The progress is seen at the tenth second.
            assert clock().time() - read_at == pytest.approx(1 + 10 + 0.05)

    run_clocked(main())


def test_one_timer_watches_a_connection_whatever_is_expected() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, _, _):
            timers = []
            for patience in (300, 10, 10, 300, 5):
                wire.expect(patience, lambda: None)
                timers.append(clock().timers())
            assert timers == [1] * 5
            wire.abort()
            assert clock().timers() == 0

    run_clocked(main())


def test_longer_patience_is_kept_by_the_timer_of_a_shorter_one() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, _, theirs):
            began = clock().time()
            theirs.sendall(b"250 ok\r\n")
            await wire.reply(2)
            with pytest.raises(WireError):
                await wire.reply(300)
            assert clock().time() - began == pytest.approx(300.05)

    run_clocked(main())


def test_shorter_patience_does_not_wait_for_the_timer_of_a_longer_one() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, _, theirs):
            began = clock().time()
            theirs.sendall(b"250 ok\r\n")
            await wire.reply(300)
            with pytest.raises(WireError):
                await wire.reply(2)
            assert clock().time() - began == pytest.approx(2.05)

    run_clocked(main())


def test_connection_that_has_ended_before_is_known_at_once() -> None:
    async def main() -> None:
        async with clocked_pair() as (_, transport, _):
            transport.close()
            await asyncio.sleep(0.1)
            began, wire = clock().time(), Wire(transport)
            assert not wire.usable
            wire.write(b"QUIT\r\n")
            with pytest.raises(WireError, match="the server closed the connection"):
                await wire.reply(300)
            assert clock().time() == began

    run_clocked(main())


def test_close_lets_the_last_words_leave_and_does_not_wait_longer() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, transport, theirs):
            began = clock().time()
            wire.write(MUCH)
            octets, _ = await asyncio.gather(all_read(theirs), wire.close())
            assert (octets, wire.closed.done(), transport.is_closing()) == (len(MUCH), True, True)
            assert clock().time() == began

    run_clocked(main())


@pytest.mark.parametrize("seconds", [None, 7.0])
def test_close_gives_up_on_a_server_that_reads_nothing(seconds: float | None) -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, _, theirs):
            began = clock().time()
            wire.write(MUCH)
            await (wire.close() if seconds is None else wire.close(seconds=seconds))
            assert clock().time() - began == pytest.approx(seconds or 1.0)
            await asyncio.sleep(0)
            assert wire.closed.done()
            assert 0 < await all_read(theirs) < len(MUCH)

    run_clocked(main())


def test_aborted_connection_is_gone_and_writes_nothing_more() -> None:
    async def main() -> None:
        async with clocked_pair() as (wire, transport, theirs):
            wire.write(b"MAIL")
            wire.abort()
            wire.write(b"QUIT")
            assert (wire.usable, transport.is_closing()) == (False, True)
            assert await all_read(theirs) == 4

    run_clocked(main())
