"""One SMTP session that pipelines (RFC 5321, RFC 2920).

aiosmtplib connects, negotiates TLS, reads EHLO and logs in. From there this module drives the
transport: the body of one message and MAIL, RCPT and DATA of the next leave in one write, so that a
message costs one round trip instead of four. A server that does not announce PIPELINING gets one
command at a time. Whatever happens, each message that was taken is settled once.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mailer.address import Envelope
from mailer.config import Relay
from mailer.smtp.dial import dial
from mailer.smtp.wire import RawReply, Reply, Wire, WireError

__all__ = ["Attempt", "End", "Fate", "Outgoing", "Reply", "SmtpSession", "Stage", "Timeouts", "wire_safe"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for what, in seconds: the least that RFC 5321 section 4.5.3.2 asks for."""

    connect: float = 30.0
    """Each address of the relay; ours, since the RFC leaves it open."""
    greeting: float = 300.0
    """Also EHLO, STARTTLS and AUTH."""
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    """The server taking no byte of a body."""
    final_dot: float = 600.0
    """Giving up earlier than this makes duplicates."""
    quit: float = 2.0


class Fate(StrEnum):
    """What became of one message."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """`reply` says why; it may be temporary."""
    LOST = "lost"
    """The connection ended before the message was handed over; it can be sent again."""
    UNCERTAIN = "uncertain"
    """The connection ended after the final dot; nobody knows."""
    UNSENT = "unsent"
    """Never begun."""


class Stage(StrEnum):
    """How far a message had come when it was settled."""

    LOCAL = "local"
    """Before anything was said of it; a `reply` is then our own."""
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message, ready to leave.

    `content` is header and body with CRLF line ends, without the final dot. `wire_safe` promises
    that `wire_safe(content)` would change nothing; it saves looking. `envid` is RFC 3461's
    envelope identifier, which a report may quote; empty sends none.
    """

    key: int
    envelope: Envelope
    content: bytes
    wire_safe: bool = False
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of the message `key`; `problem` says in words why the connection ended, if it did."""

    key: int
    fate: Fate
    stage: Stage
    reply: Reply | None = None
    problem: str = ""


class End(StrEnum):
    """Why `SmtpSession.run` returned."""

    DRAINED = "drained"
    """The source had nothing more; the session can go on."""
    CLOSED = "closed"
    """The connection is gone; the next message needs another."""


Source = Callable[[], Outgoing | None]
Settle = Callable[[Attempt], None]

_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LINE_DOT: Final = re.compile(rb"^\.|(?<=\n)\.")
_XTEXT: Final = re.compile(r"[^!-*,-<>-~]")


def wire_safe(content: bytes) -> bytes:
    """Return `content` as DATA carries it: CRLF throughout, ending in one, dots stuffed.

    A bare CR or LF becomes CRLF, so that no server can see the end of the data where another sees
    text (RFC 5321 sections 2.3.8 and 4.5.2).
    """
    content = _BARE.sub(b"\r\n", content)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return _LINE_DOT.sub(b"..", content)


class _Run:
    """One `SmtpSession.run`: the message being sent, and the one whose commands left with its body."""

    def __init__(self, session: SmtpSession, source: Source, settle: Settle) -> None:
        self._session = session
        self._wire = session.wire
        self._timeouts = session.timeouts
        self._patience = (self._timeouts.mail, self._timeouts.rcpt, self._timeouts.data)
        self._source = source
        self._settle = settle
        self._current: Outgoing | None = None
        self._following: Outgoing | None = None
        self._body_written = False

    async def converse(self) -> None:
        """Send until the source has no more; raise `WireError` when the connection is over."""
        pipelining = self._session.pipelining
        self._current = self._take()
        if pipelining and self._current is not None:
            self._wire.write(*self._session.commands(self._current))
        while self._current is not None:
            answers = await self._offer(self._current)
            if len(answers) == 3 and answers[2].code == 354 and _positive(answers[0], answers[1]):
                await self._transmit(self._current)
            else:
                await self._recover(answers)
            self._current, self._following = (self._following, None) if pipelining else (self._take(), None)

    def abandon(self, problem: str) -> None:
        """Settle what was taken and is not settled: the connection has ended."""
        # While the write buffer is not empty the final dot, which stands at its end, has not left.
        if self._current is not None:
            gone = self._body_written and not self._wire.paused
            fate, stage = (Fate.UNCERTAIN, Stage.BODY) if gone else (Fate.LOST, Stage.MAIL)
            self._finish(fate, stage, None, problem)
        if self._following is not None:
            self._current, self._following = self._following, None
            self._finish(Fate.LOST, Stage.MAIL, None, problem)

    def _take(self) -> Outgoing | None:
        while (outgoing := self._source()) is not None:
            refusal = self._session.refusal(outgoing)
            if refusal is None:
                return outgoing
            self._settle(Attempt(outgoing.key, Fate.REFUSED, Stage.LOCAL, refusal))
        return None

    def _finish(self, fate: Fate, stage: Stage, answer: RawReply | None, problem: str = "") -> None:
        assert self._current is not None
        key, self._current, self._body_written = self._current.key, None, False
        self._settle(Attempt(key, fate, stage, None if answer is None else answer.read(), problem))

    async def _offer(self, outgoing: Outgoing) -> list[RawReply]:
        """Return the answers to MAIL, RCPT and DATA, as far as they came."""
        wire, pipelining = self._wire, self._session.pipelining
        commands = () if pipelining else self._session.commands(outgoing)
        answers: list[RawReply] = []
        for place, patience_seconds in enumerate(self._patience):
            if not pipelining:
                self._check_turn()
                wire.write(commands[place])
            answer = await wire.reply(patience_seconds)
            answers.append(answer)
            if answer.code == 421 or not (pipelining or 200 <= answer.code < 300):
                break
        return answers

    def _check_turn(self) -> None:
        """Raise `WireError` when the server has spoken unasked: what it said answers nothing of ours."""
        if not self._wire.usable:
            raise WireError("the server spoke out of turn, or closed the connection")

    def _next_commands(self) -> tuple[bytes, ...]:
        """Return the commands of the message that follows, where they may leave at once."""
        if self._session.pipelining:
            self._following = self._take()
        return () if self._following is None else self._session.commands(self._following)

    async def _transmit(self, outgoing: Outgoing) -> None:
        """Send the body, with the next message's commands behind it, and settle it."""
        wire = self._wire
        following = self._next_commands()
        self._check_turn()
        content = outgoing.content if outgoing.wire_safe else wire_safe(outgoing.content)
        self._body_written = True
        wire.write(content, b".\r\n", *following)
        if wire.paused:
            await wire.drained(self._timeouts.block)
        final = await wire.reply(self._timeouts.final_dot)
        if not (200 <= final.code < 300 or 400 <= final.code < 600):
            raise WireError(f"the server answered {final.code} to a message")
        if wire.paused and final.code < 300:
            raise WireError("the server accepted a message before it had come")
        self._finish(Fate.ACCEPTED if final.code < 300 else Fate.REFUSED, Stage.BODY, final)
        _check_open(final)

    async def _recover(self, answers: list[RawReply]) -> None:
        """Settle the message that was refused and make the server ready for the next one."""
        stage, refusal = _refusal(answers)
        if len(answers) == 3 and 200 <= answers[2].code < 300:
            # DATA has no such answer: one of the three was not asked for, so none can be told from another.
            stage, refusal = Stage.DATA, answers[2]
        if not 400 <= refusal.code < 600:
            problem = f"the server answered {refusal.code} to {stage.upper()}"
            self._finish(Fate.LOST, stage, refusal, problem)
            raise WireError(problem)
        self._finish(Fate.REFUSED, stage, refusal)
        _check_open(*answers)
        mail, rcpt, data = _accepted(answers)
        if data and (rcpt or answers[2].code != 354):
            raise WireError("the server wants a message that it refused")
        # RFC 2920 section 3.1: DATA was accepted without a recipient, so the message must be empty.
        ending = (b".\r\n",) if data else (b"RSET\r\n",) if mail else ()
        following = self._next_commands()
        self._check_turn()
        self._wire.write(*ending, *following)
        if ending:
            _check_open(await self._wire.reply(self._timeouts.final_dot))


class SmtpSession:
    """A connection to one relay, greeted, protected and logged in."""

    def __init__(
        self, wire: Wire, extensions: dict[str, str], timeouts: Timeouts, greeted_as: str = ""
    ) -> None:
        self.wire = wire
        self.greeted_as = greeted_as
        self.timeouts = timeouts
        self.pipelining = "pipelining" in extensions
        self._announced_size = "size" in extensions
        size = extensions.get("size", "")
        self.max_octets = int(size) if size.isdigit() else 0
        """What the relay takes at most in one message; 0 is not known."""
        self.smtputf8 = "smtputf8" in extensions
        self._dsn = "dsn" in extensions

    @classmethod
    async def open(
        cls,
        relay: Relay,
        *,
        password: str = "",
        client_name: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeouts: Timeouts | None = None,
    ) -> SmtpSession:
        """Return a session with `relay`.

        Raises `RelayDownError` when it cannot be reached or asks to come later, and `RelayError` when
        it never will work as configured: login refused, no STARTTLS, a certificate not trusted.
        `tls` replaces the context made from the system's certificates.
        """
        timeouts = timeouts or Timeouts()
        transport, extensions, greeted_as = await dial(
            relay,
            password=password,
            client_name=client_name,
            tls=tls,
            connect_seconds=timeouts.connect,
            reply_seconds=timeouts.greeting,
        )
        return cls(Wire(transport), extensions, timeouts, greeted_as)

    @property
    def usable(self) -> bool:
        """Whether another message may be sent on this connection."""
        return self.wire.usable

    async def run(self, source: Source, settle: Settle) -> End:
        """Send what `source` gives until it gives None or the connection ends.

        With pipelining, `source` is asked one message ahead of the one being sent. `settle` is called
        once for each message that `source` gave. An exception, of `source` or by cancelling, settles
        what was taken before it is raised.
        """
        run = _Run(self, source, settle)
        try:
            await run.converse()
        except WireError as error:
            run.abandon(str(error))
            self.wire.abort()
            return End.CLOSED
        except BaseException:
            run.abandon("the run was interrupted")
            self.wire.abort()
            raise
        return End.DRAINED

    async def close(self) -> None:
        """Say QUIT, wait a moment for the answer, and close."""
        if self.wire.usable:
            self.wire.write(b"QUIT\r\n")
            try:
                await self.wire.reply(self.timeouts.quit)
            except WireError:
                # The connection was to end; how it did changes nothing any more.
                self.wire.abort()
        await self.wire.close()

    def commands(self, outgoing: Outgoing) -> tuple[bytes, bytes, bytes]:
        """Return MAIL, RCPT and DATA for a message that `refusal` let pass."""
        envelope = outgoing.envelope
        options = f" SIZE={len(outgoing.content)}" if self._announced_size else ""
        if envelope.smtputf8:
            options += " BODY=8BITMIME SMTPUTF8"
        if self._dsn:
            options += " RET=HDRS"
            if outgoing.envid:
                options += f" ENVID={_XTEXT.sub(lambda m: f'+{ord(m[0]):02X}', outgoing.envid)}"
        return (
            f"MAIL FROM:<{envelope.sender}>{options}\r\n".encode(),
            f"RCPT TO:<{envelope.recipient}>\r\n".encode(),
            b"DATA\r\n",
        )

    def refusal(self, outgoing: Outgoing) -> Reply | None:
        """Return why this relay cannot take a message, in the form of a reply; None when it can."""
        envelope = outgoing.envelope
        if self.max_octets and len(outgoing.content) > self.max_octets:
            octets = len(outgoing.content)
            return Reply(552, "5.3.4", f"{octets} octets; the relay takes {self.max_octets} at most")
        both = envelope.sender + envelope.recipient
        if not both.isprintable():
            return Reply(553, "5.1.3", "the address contains control characters")
        if not self.smtputf8 and (envelope.smtputf8 or not both.isascii()):
            return Reply(553, "5.6.7", "the address needs SMTPUTF8, which the relay does not offer")
        return None


def _positive(*answers: RawReply) -> bool:
    return all(200 <= answer.code < 300 for answer in answers)


def _accepted(answers: list[RawReply]) -> tuple[bool, bool, bool]:
    """Return which of MAIL, RCPT and DATA the server took."""
    taken = [200 <= answer.code < 400 for answer in answers] + [False, False]
    return taken[0], taken[1], taken[2]


def _refusal(answers: list[RawReply]) -> tuple[Stage, RawReply]:
    """Return the first answer that is not what the command asks for, and where it came."""
    for stage, answer in zip((Stage.MAIL, Stage.RCPT), answers, strict=False):
        if not _positive(answer):
            return stage, answer
    return Stage.DATA, answers[-1]


def _check_open(*answers: RawReply) -> None:
    """Raise `WireError` after a 421: the server closes, whatever was asked (RFC 5321 section 3.8)."""
    if any(answer.code == 421 for answer in answers):
        raise WireError("the server is closing the connection")
