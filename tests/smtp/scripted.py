"""An SMTP server on loopback that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mailer.config import Relay, Security

CLOSE = b""
"""As an answer: close the connection without a word."""
SILENCE = b"..."
"""As an answer: say nothing any more."""
EHLO = b"250-test.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n250-8BITMIME\r\n250 DSN\r\n"

Answer = Callable[[str, int], bytes | None]
T = TypeVar("T")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
Loop = Callable[[], asyncio.AbstractEventLoop]
chosen: list[Loop] = [asyncio.new_event_loop]
"""The loop that `run_async` uses; the fixture `each_loop` changes it."""


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns, run on the chosen kind of loop."""
    with asyncio.Runner(loop_factory=chosen[0]) as runner:
        return runner.run(work)


@dataclass
class Script:
    """What the server says; `answer(verb, count)` may replace the reply to the n-th such command.

    `verb` is MAIL, RCPT, DATA, BODY (the end of a message) and so on; `count` runs over all
    connections from 1. None leaves the usual reply.
    """

    greeting: bytes = b"220 test.example ESMTP\r\n"
    ehlo: bytes = EHLO
    answer: Answer = lambda verb, count: None
    starttls: ssl.SSLContext | None = None
    piece: int = 0
    """Octets sent at a time; 0 sends replies whole."""
    commands: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    body_came: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: list[bytes] = field(default_factory=list)
    """Bodies that got a 2yz."""
    reads: list[bytes] = field(default_factory=list)
    """The data of each read, in order: shows what was sent in one write."""
    connections: int = 0
    open: int = 0
    most_open: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def recipients(self) -> list[str]:
        """Return the recipients named, in order."""
        return [line[9:-1] for line in self.commands if line.startswith("RCPT TO:<")]


class _Conversation:
    def __init__(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.script, self.reader, self.writer = script, reader, writer
        self.buffer = b""

    async def until(self, end: bytes) -> bytes | None:
        while end not in self.buffer:
            data = await self.reader.read(1 << 20)
            if not data:
                return None
            self.script.reads.append(data)
            self.buffer += data
        found, _, self.buffer = self.buffer.partition(end)
        return found

    async def say(self, reply: bytes) -> None:
        if not self.script.piece:
            self.writer.write(reply)
        for at in range(0, len(reply) if self.script.piece else 0, self.script.piece or 1):
            self.writer.write(reply[at : at + self.script.piece])
            await self.writer.drain()
            await asyncio.sleep(0)

    async def respond(self, verb: str, usual: bytes) -> bytes | None:
        """Say what the script wants; return it, or None when the connection is to end."""
        count = self.script.counts[verb] = self.script.counts.get(verb, 0) + 1
        reply = self.script.answer(verb, count)
        reply = usual if reply is None else reply
        if reply == CLOSE:
            return None
        if reply == SILENCE:
            await self.reader.read()
            return None
        await self.say(reply)
        return None if reply.startswith(b"421") else reply

    async def body(self) -> bytes | None:
        # A message may be empty: the dot then directly follows the command.
        if not self.buffer and (data := await self.reader.read(1 << 20)):
            self.script.reads.append(data)
            self.buffer += data
        self.buffer = b"\r\n" + self.buffer
        body = await self.until(b"\r\n.\r\n")
        return None if body is None else body[2:] + b"\r\n" if body else b""

    async def secure(self, context: ssl.SSLContext) -> None:
        plain = self.writer.transport
        try:
            await self.writer.start_tls(context)
        finally:
            # When the client hangs up during the handshake, StreamWriter forgets its transport.
            self.writer._transport = self.writer.transport or plain  # type: ignore[attr-defined]

    async def hold(self) -> None:
        script = self.script
        if script.greeting == SILENCE:
            await self.reader.read()
        if script.greeting in (SILENCE, CLOSE):
            return
        await self.say(script.greeting)
        while (line := await self.until(b"\r\n")) is not None:
            script.commands.append(line.decode())
            verb = line[:4].decode().upper()
            usual = {
                "EHLO": script.ehlo,
                "HELO": b"250 test.example\r\n",
                "DATA": b"354 go on\r\n",
                "QUIT": b"221 bye\r\n",
                "STAR": b"220 go on\r\n",
                "AUTH": b"235 2.7.0 welcome\r\n",
            }.get(verb, b"250 2.0.0 ok\r\n")
            reply = await self.respond(verb, usual)
            if reply is None or verb == "QUIT":
                return
            if verb == "STAR" and reply.startswith(b"220"):
                assert self.script.starttls is not None
                await self.secure(self.script.starttls)
                self.buffer = b""
            if verb == "DATA" and reply.startswith(b"354"):
                if (body := await self.body()) is None:
                    return
                script.bodies.append(body)
                script.body_came.set()
                reply = await self.respond("BODY", b"250 2.0.0 queued\r\n")
                if reply is None:
                    return
                if reply.startswith(b"2"):
                    script.accepted.append(body)


@asynccontextmanager
async def serving(
    script: Script, tls: ssl.SSLContext | None = None, handler: Handler | None = None
) -> AsyncIterator[Relay]:
    """Run the server; yield the relay that names it. `handler` replaces the script's conversation."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script.connections += 1
        script.open += 1
        script.most_open = max(script.most_open, script.open)
        script.writers.append(writer)
        try:
            await (handler(reader, writer) if handler else _Conversation(script, reader, writer).hold())
        except OSError as error:
            script.commands.append(f"({error})")
        finally:
            script.open -= 1
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Relay(host="127.0.0.1", port=port, security=Security.TLS if tls else Security.PLAIN)
    finally:
        server.close()
        for writer in script.writers:
            writer.close()
        await asyncio.sleep(0)
