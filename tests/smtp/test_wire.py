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
from hypothesis import given
from hypothesis import strategies as st

from mailer.smtp.session import wire_safe
from mailer.smtp.wire import ReplyReader, Wire, WireError
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
            with pytest.raises(WireError):
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


@pytest.mark.parametrize("more", [0, 1])
def test_reply_and_line_may_be_just_as_long_as_the_limits(more: int) -> None:
    refused = pytest.raises(WireError) if more else contextlib.nullcontext()
    line = b"250-" + b"x" * 123 + b"\r"
    reader = ReplyReader()
    reader.feed(b"220 an earlier one\r\n")
    with refused:
        # Of a line end, only the line feed does not count.
        reader.feed(b"250-" + b"x" * (123 + more) + b"\r\n" + (line + b"\n") * (65_536 // len(line) - 1))
    with refused:
        ReplyReader().feed(b"2" * (8_192 + more))


def test_long_text_is_cut() -> None:
    reply = ReplyReader().feed(b"250 2.0.0 " + b"x" * 2_001 + b"\r\n")[0].read()
    assert reply.text == "x" * 2_000
