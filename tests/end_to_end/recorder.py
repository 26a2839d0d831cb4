"""An SMTP server that notes who was sent what, outlives the senders, and may drop connections."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.served import Ready, served

_EHLO = b"250-recorder.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"
_RECIPIENT = re.compile(rb"^RCPT TO:<([^>]+)>", re.I)
_MESSAGE_ID = re.compile(rb"^Message-ID: (\S+)", re.M | re.I)


@dataclass
class Recorder:
    """Takes every message. With `drops`, that share of messages ends its connection at some stage."""

    drops: float = 0.0
    seed: int = 0
    port: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    """Messages by recipient, counted when their last octet came."""
    names: dict[str, set[bytes]] = field(default_factory=dict)
    """Message-IDs by recipient."""
    times: list[float] = field(default_factory=list)
    """When each message was taken, on the monotonic clock."""
    connections: int = 0
    """How many are open."""
    most_connections: int = 0
    busy_after: float = math.inf
    """How many messages to take before one recipient is answered with 421."""
    busy_at: float = math.inf
    unanswered: int = 0
    """Messages that were taken without the sender being told."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Recorder:
        self.port = self._open.enter_context(served(self._serve))
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    @property
    def total(self) -> int:
        """How many messages were taken, copies included."""
        return sum(self.accepted.values())

    async def _serve(self, ready: Ready) -> None:
        async with await asyncio.start_server(self._converse, "127.0.0.1", 0) as server:
            ready(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.most_connections = max(self.most_connections, self.connections)
        try:
            writer.write(b"220 recorder.example ESMTP\r\n")
            await self._listen(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            # The sender was killed, or we hung up on it: both are what these tests are about.
            return
        finally:
            self.connections -= 1
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        recipient = ""
        while line := await reader.readline():
            verb = line[:4].upper()
            if found := _RECIPIENT.match(line):
                recipient = found[1].decode()
            if found and self.total >= self.busy_after:
                self.busy_after, self.busy_at = math.inf, time.monotonic()
                writer.write(b"421 4.7.0 Too many messages, slow down\r\n")
                return
            if verb == b"EHLO":
                writer.write(_EHLO)
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            elif verb == b"DATA":
                stage = self._chance.choice(("before", "body", "after"))
                dropped = self._chance.random() < self.drops
                if dropped and stage == "before":
                    return
                writer.write(b"354 go on\r\n")
                if dropped and stage == "body":
                    await reader.readexactly(100)
                    return
                content = await reader.readuntil(b"\r\n.\r\n")
                self._take(recipient, content)
                if dropped:
                    self.unanswered += 1
                    return
                writer.write(b"250 2.0.0 taken\r\n")
            else:
                writer.write(b"250 2.0.0 ok\r\n")

    def _take(self, recipient: str, content: bytes) -> None:
        found = _MESSAGE_ID.search(content)
        assert found is not None
        self.names.setdefault(recipient, set()).add(found[1])
        self.accepted[recipient] += 1
        self.times.append(time.monotonic())
