"""The SMTP server of rehearsals: it accepts mail like a relay, with the faults of a scenario.

It does not use a server library, because it has to misbehave in ways that libraries prevent: it closes
connections midway, replies late or never, and still answers pipelined commands in sequence.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, assert_never

from mailer.config import Relay, Security
from mailer.rehearsal.scenario import At, FaultKind, InjectedFault, Scenario

_EHLO: Final = (
    b"250-rehearsal.localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
    b"250-ENHANCEDSTATUSCODES\r\n250 DSN\r\n"
)
_END: Final = b"\r\n.\r\n"
_CLOSE: Final = b""


@dataclass(frozen=True, slots=True)
class Returned:
    """A message that was accepted and will bounce, with its header as the server keeps it."""

    header: bytes
    status: str
    diagnostic: str


@dataclass(slots=True)
class Seen:
    """The server's observations during a rehearsal."""

    messages: int = 0
    """Messages kept, including copies."""
    copies: int = 0
    """Messages kept a second time for the same recipient."""
    octets: int = 0
    largest_octets: int = 0
    connections: int = 0
    most_connections: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault occurred."""


@dataclass(slots=True)
class _Struck:
    """A recipient affected by faults."""

    faults: tuple[InjectedFault, ...]
    first_at: float
    tries: int = 0
    kept: bool = False


class RehearsalServer:
    """The server, with one loopback port per relay. `async with` starts and stops it.

    `bounce` is called with each message that will bounce.
    """

    def __init__(self, scenario: Scenario, *, bounce: Callable[[Returned], None]) -> None:
        self.scenario = scenario
        self.bounce = bounce
        self.seen = Seen()
        self._struck: dict[str, _Struck] = {}
        self._stack = AsyncExitStack()
        self._protocols: set[_Conversation] = set()

    async def __aenter__(self) -> RehearsalServer:
        return self

    async def __aexit__(self, *failure: object) -> None:
        for protocol in tuple(self._protocols):
            protocol.close()
        await self._stack.aclose()

    async def relay(self, like: Relay) -> Relay:
        """Listen for one more relay; return its settings, with the limits of `like`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Conversation(self), "127.0.0.1", 0)
        self._stack.callback(server.close)
        port: int = server.sockets[0].getsockname()[1]
        return Relay(
            host="127.0.0.1",
            port=port,
            security=Security.PLAIN,
            connections=like.connections,
            messages_per_connection=like.messages_per_connection,
            rate_per_second=like.rate_per_second,
            weight=like.weight,
        )

    def opened(self, protocol: _Conversation) -> None:
        """Count a connection."""
        self._protocols.add(protocol)
        self.seen.connections += 1
        self.seen.most_connections = max(self.seen.most_connections, len(self._protocols))

    def closed(self, protocol: _Conversation) -> None:
        """Forget a connection."""
        self._protocols.discard(protocol)

    def struck(self, recipient: str, now: float) -> _Struck | None:
        """Count this attempt; return the recipient's faults, or None."""
        known = self._struck.get(recipient)
        if known is None:
            faults = self.scenario.faults_of(recipient)
            if not faults:
                return None
            known = self._struck[recipient] = _Struck(faults, now)
        known.tries += 1
        return known

    def keep(self, struck: _Struck | None, octets: int) -> None:
        """Count a message that the server kept."""
        self.seen.messages += 1
        self.seen.octets += octets
        self.seen.largest_octets = max(self.seen.largest_octets, octets)
        if struck is not None:
            self.seen.copies += struck.kept
            struck.kept = True


class _Conversation(asyncio.Protocol):
    """One connection, which answers commands one by one."""

    def __init__(self, server: RehearsalServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._looked = 0
        self._transport: asyncio.Transport | None = None
        self._sender = ""
        self._recipient = ""
        self._struck: _Struck | None = None
        self._in_body = False
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Implement `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.opened(self)
        transport.write(b"220 rehearsal.localhost ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """Implement `asyncio.Protocol`."""
        self._transport = None
        if self._waiting is not None:
            self._waiting.cancel()
        self._server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Implement `asyncio.Protocol`."""
        self._buffer += data
        if self._waiting is None:
            self._work()

    def close(self) -> None:
        """Close without a reply."""
        if self._transport is not None:
            self._transport.close()

    def _work(self) -> None:
        """Answer complete commands until a reply has to wait."""
        self._waiting = None
        answers = bytearray()
        while self._transport is not None and self._waiting is None:
            answer = self._body() if self._in_body else self._line()
            if answer is None:
                break
            answers += answer
            if answer == _CLOSE or answer.startswith((b"421", b"221")):
                self._transport.write(bytes(answers))
                self.close()
                return
        if answers and self._transport is not None:
            self._transport.write(bytes(answers))

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        match line[:4].upper():
            case b"EHLO":
                return _EHLO
            case b"MAIL":
                self._sender, self._recipient = _path(line), ""
                return b"250 2.1.0 Fine\r\n"
            case b"RCPT":
                return self._rcpt(_path(line))
            case b"DATA" if self._recipient:
                self._in_body, self._looked = True, 0
                return b"354 Go on\r\n"
            case b"DATA":
                return b"503 5.5.1 No valid recipient\r\n"
            case b"QUIT":
                return b"221 2.0.0 Bye\r\n"
            case b"HELO" | b"RSET" | b"NOOP":
                return b"250 2.0.0 Fine\r\n"
            case _:
                return b"502 5.5.1 Not known here\r\n"

    def _rcpt(self, recipient: str) -> bytes:
        now = self._loop.time()
        struck = self._struck = self._server.struck(recipient, now)
        for fault in _striking(struck):
            match fault.kind:
                case FaultKind.REPLY if fault.at is At.RCPT:
                    return self._refuse(fault)
                case FaultKind.GREYLIST if struck and now - struck.first_at < fault.lasts.total_seconds():
                    return self._refuse(fault)
                case FaultKind.CLOSE:
                    self._count(fault)
                    return _CLOSE
                case _:
                    # The other kinds affect the message, not the recipient.
                    continue
        self._recipient = recipient
        return b"250 2.1.5 Fine\r\n"

    def _body(self) -> bytes | None:
        if self._buffer.startswith(b".\r\n"):
            end, length = 0, 3
        else:
            end, length = self._buffer.find(_END, max(0, self._looked - len(_END))), len(_END)
        if end < 0:
            self._looked = len(self._buffer)
            return None
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + length]
        self._in_body = False
        seconds = self._server.scenario.server.reply_time.total_seconds()
        slow = next((fault for fault in _striking(self._struck) if fault.kind is FaultKind.SLOW), None)
        if slow is not None:
            self._count(slow)
            seconds += slow.delay.total_seconds()
        if not seconds:
            return self._take(content)
        self._waiting = self._loop.call_later(seconds, self._take_late, content)
        return None

    def _take_late(self, content: bytes) -> None:
        answer = self._take(content)
        if self._transport is not None:
            self._transport.write(answer)
            if answer == _CLOSE or answer.startswith(b"421"):
                self.close()
            else:
                self._work()

    def _take(self, content: bytes) -> bytes:
        """Return the reply to a message."""
        recipient, self._recipient = self._recipient, ""
        for fault in _striking(self._struck):
            match fault.kind:
                case FaultKind.REPLY if fault.at is At.BODY:
                    return self._refuse(fault)
                case FaultKind.DROP:
                    self._count(fault)
                    if fault.kept:
                        self._server.keep(self._struck, len(content))
                    return _CLOSE
                case FaultKind.BOUNCE:
                    self._count(fault)
                    header = content[: content.find(b"\r\n\r\n") + 4]
                    top = f"Return-Path: <{self._sender}>\r\nX-Original-To: {recipient}\r\n".encode()
                    self._server.bounce(Returned(top + header, fault.status, fault.diagnostic))
                case FaultKind.REPLY | FaultKind.GREYLIST | FaultKind.CLOSE | FaultKind.SLOW:
                    # These kinds occur elsewhere.
                    continue
                case _:
                    assert_never(fault.kind)
        self._server.keep(self._struck, len(content))
        return b"250 2.0.0 Taken\r\n"

    def _refuse(self, fault: InjectedFault) -> bytes:
        self._count(fault)
        return fault.answer.encode() + b"\r\n"

    def _count(self, fault: InjectedFault) -> None:
        name = fault.answer.split(" ")[0] if fault.kind is FaultKind.REPLY else fault.kind.value
        self._server.seen.faults[name] += 1


def _striking(struck: _Struck | None) -> list[InjectedFault]:
    """Return the faults that affect this attempt."""
    return [] if struck is None else [fault for fault in struck.faults if struck.tries <= fault.tries]


def _path(line: bytes) -> str:
    """Return the address between the angle brackets of MAIL or RCPT."""
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")
