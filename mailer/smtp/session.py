"""One SMTP session that pipelines (RFC 5321, RFC 2920).

aiosmtplib connects, negotiates TLS, reads EHLO and logs in. From there on this module drives the
transport itself: the body of one message and MAIL, RCPT and DATA of the next leave in one write, so a
message costs one round trip instead of four. A server that does not announce PIPELINING gets one
command at a time. Every message taken is settled exactly once, whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from msgspec import Struct

from mailer.address import Envelope
from mailer.config import Relay
from mailer.printable import whole_number
from mailer.smtp.dial import dial
from mailer.smtp.wire import RawReply, Reply, Wire, WireError

__all__ = ["Attempt", "End", "Fate", "Outgoing", "Reply", "SmtpSession", "Stage", "Timeouts", "wire_safe"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds: the minimums of RFC 5321 section 4.5.3.2."""

    connect: float = 30.0
    """For each address of the relay. The RFC does not set this one."""
    greeting: float = 300.0
    """Also EHLO, STARTTLS and AUTH."""
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    """While the server reads nothing of a body."""
    final_dot: float = 600.0
    """Giving up earlier leads to duplicates."""
    quit: float = 2.0


class Fate(StrEnum):
    """What happened to one message."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """See `reply` for the reason, which may be temporary."""
    LOST = "lost"
    """The connection ended before the message was handed over: it can safely be sent again."""
    UNCERTAIN = "uncertain"
    """The connection ended after the final dot: it may have been accepted."""
    UNSENT = "unsent"
    """Never started."""


class Stage(StrEnum):
    """How far the dialogue about a message had come when it was settled."""

    LOCAL = "local"
    """Before it began; `reply` is then our own."""
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"


class Outgoing(Struct, frozen=True):
    """One message, ready to leave.

    `parts` are header and body with CRLF line ends, without the final dot. Set `wire_safe` if `wire_safe`
    would change nothing in them; that saves the check. `envid` is the envelope identifier of RFC 3461,
    which reports may quote; empty for none.
    """

    key: int
    envelope: Envelope
    parts: Sequence[bytes]
    wire_safe: bool = False
    envid: str = ""

    @property
    def octets(self) -> int:
        """The size of the message."""
        return sum(map(len, self.parts))


class Attempt(Struct, frozen=True):
    """One attempt to send the message `key`; `problem` says why the connection ended, if it did.

    `seconds` is how long the server took to reply: from the end of the message, or from the turn of its
    commands if it refused those.
    """

    key: int
    fate: Fate
    stage: Stage
    reply: Reply | None = None
    problem: str = ""
    seconds: float = 0.0


class End(StrEnum):
    """Why `SmtpSession.run` returned."""

    DRAINED = "drained"
    """The source had no more messages; the session is still usable."""
    CLOSED = "closed"
    """The connection is gone; the next message needs a new one."""


Source = Callable[[], Outgoing | None]
Settle = Callable[[Attempt], None]

_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_LINE_DOT: Final = re.compile(rb"^\.|(?<=\n)\.")
_CLOSING: Final = "the server is closing the connection"
_XTEXT: Final = re.compile(r"[^!-*,-<>-~]")


def wire_safe(content: bytes) -> bytes:
    """Return `content` as DATA carries it: CRLF throughout, ending in one, dots stuffed.

    A bare CR or LF becomes CRLF: otherwise one server could see the end of the data where another sees
    text, which allows SMTP smuggling (RFC 5321 sections 2.3.8 and 4.5.2).
    """
    content = _BARE.sub(b"\r\n", content)
    if not content.endswith(b"\r\n"):
        content += b"\r\n"
    return _LINE_DOT.sub(b"..", content)


_T = TypeVar("_T")
_Steps = Generator[float, RawReply, _T]
"""Part of a dialogue: yields how many seconds to wait for the next reply, and gets that reply."""


class _Dialogue:
    """One `SmtpSession.run`: the message being sent, and the one whose commands left with its body.

    The connection itself drives it: a reply is answered in the callback that reads it, without waking a task.
    """

    def __init__(
        self, session: SmtpSession, source: Source, settle: Settle, may_send: Callable[[], bool]
    ) -> None:
        self._session = session
        self._wire = session.wire
        self._timeouts = session.timeouts
        self._patience = (self._timeouts.mail, self._timeouts.rcpt, self._timeouts.data)
        self._source = source
        self._settle = settle
        self._may_send = may_send
        self._current: Outgoing | None = None
        self._following: Outgoing | None = None
        self._body_written = False
        self._waiting_since = 0.0
        self._steps = self._converse()
        self._reply_seconds = 0.0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def converse(self) -> None:
        """Send until the source runs dry; raise `WireError` when the connection ends."""
        self._advance(first=True)
        await self._over

    def _advance(self, *, first: bool = False) -> None:
        """Answer the replies that are here; then let the wire call this again when there are more."""
        wire, over = self._wire, self._over
        replies = wire.replies
        try:
            if first:
                self._reply_seconds = next(self._steps)
            while replies and not over.done():
                self._reply_seconds = self._steps.send(replies.popleft())
            if not over.done():
                wire.expect(self._timeouts.block if wire.paused else self._reply_seconds, self._advance)
        except StopIteration:
            if not over.done():
                over.set_result(None)
        except BaseException as error:
            # `SmtpSession.run` raises it, unless it was cancelled just now.
            if not over.done():
                over.set_exception(error)

    def _converse(self) -> _Steps[None]:
        pipelining = self._session.pipelining
        self._current = self._take()
        if pipelining and self._current is not None:
            self._wire.write(*self._session.commands(self._current))
        while self._current is not None:
            answers = yield from self._offer(self._current)
            if _wants_body(answers):
                yield from self._transmit(self._current)
            else:
                yield from self._recover(answers)
            self._current, self._following = (self._following, None) if pipelining else (self._take(), None)

    def abandon(self, problem: str) -> None:
        """Settle the messages taken but not settled, after the connection has ended."""
        # The final dot is at the end of the write buffer: it has not left while the buffer is not empty.
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
        if answer is None:
            self._settle(Attempt(key, fate, stage, None, problem))
        else:
            seconds = time.monotonic() - self._waiting_since
            self._settle(Attempt(key, fate, stage, answer.read(), problem, seconds))

    def _offer(self, outgoing: Outgoing) -> _Steps[list[RawReply]]:
        """Return those replies to MAIL, RCPT and DATA that arrived."""
        wire, pipelining = self._wire, self._session.pipelining
        commands = () if pipelining else self._session.commands(outgoing)
        answers: list[RawReply] = []
        self._waiting_since = time.monotonic()
        for place, patience_seconds in enumerate(self._patience):
            if not pipelining:
                self._check_turn()
                wire.write(commands[place])
            answer = yield patience_seconds
            answers.append(answer)
            if answer.code == 421 or not (pipelining or _positive(answer)):
                break
        return answers

    def _check_turn(self) -> None:
        """Raise `WireError` after an unsolicited reply: later ones could not be matched to commands."""
        if not self._wire.usable:
            raise WireError("the server spoke out of turn, or closed the connection")

    def _next_commands(self) -> tuple[bytes, ...]:
        """Return the commands of the next message, if they may be pipelined."""
        if self._session.pipelining:
            self._following = self._take()
        return () if self._following is None else self._session.commands(self._following)

    def _transmit(self, outgoing: Outgoing) -> _Steps[None]:
        """Send the body and the next message's commands, then settle this message."""
        if not self._may_send():
            raise WireError("the run may not send at present")
        wire = self._wire
        following = self._next_commands()
        self._check_turn()
        parts = outgoing.parts if outgoing.wire_safe else (wire_safe(b"".join(outgoing.parts)),)
        self._body_written = True
        wire.write(*parts, b".\r\n", *following)
        self._waiting_since = time.monotonic()
        final = yield self._timeouts.final_dot
        if not (_positive(final) or 400 <= final.code < 600):
            raise WireError(f"the server answered {final.code} to a message")
        if wire.paused and _positive(final):
            raise WireError("the server accepted a message before receiving it")
        self._finish(Fate.ACCEPTED if _positive(final) else Fate.REFUSED, Stage.BODY, final)
        if final.code == 421:
            raise WireError(_CLOSING)

    def _recover(self, answers: list[RawReply]) -> _Steps[None]:
        """Settle a refused message and get the server ready for the next one."""
        stage, refusal = _refusal(answers)
        if len(answers) == 3 and _positive(answers[2]):
            # DATA has no such reply. One of the three was unexpected, so none can be matched to its command.
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
            _check_open((yield self._timeouts.final_dot))


class SmtpSession:
    """A connection to one relay, after EHLO, TLS and login."""

    def __init__(
        self, wire: Wire, extensions: dict[str, str], timeouts: Timeouts, greeted_as: str = ""
    ) -> None:
        self.wire = wire
        self.greeted_as = greeted_as
        self.timeouts = timeouts
        self.pipelining = "pipelining" in extensions
        self._announced_size = "size" in extensions
        size = extensions.get("size", "")
        self.max_octets = whole_number(size) or 0
        """The largest message that the relay accepts; 0 if unknown."""
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
        awaiting: Callable[[str], None] = lambda step: None,
    ) -> SmtpSession:
        """Open a session with `relay`; `awaiting` is called with the name of each step.

        Raises `RelayDownError` if it cannot be reached or asks us to come back later, and `RelayError` if
        it cannot work as configured: login refused, no STARTTLS, certificate not trusted. `tls` replaces
        the context made from the system's certificates.
        """
        timeouts = timeouts or Timeouts()
        transport, extensions, greeted_as = await dial(
            relay,
            password=password,
            client_name=client_name,
            tls=tls,
            connect_seconds=timeouts.connect,
            reply_seconds=timeouts.greeting,
            awaiting=awaiting,
        )
        return cls(Wire(transport), extensions, timeouts, greeted_as)

    @property
    def usable(self) -> bool:
        """Whether another message may be sent on this connection."""
        return self.wire.usable

    async def run(self, source: Source, settle: Settle, may_send: Callable[[], bool] = lambda: True) -> End:
        """Send the messages that `source` returns until it returns None or the connection ends.

        With pipelining, `source` is called one message ahead; `may_send` is asked once more before each body,
        and closes the connection by returning False. `settle` is called exactly once for each
        message, also before an exception raised by `source` or by cancellation leaves this method.
        """
        run = _Dialogue(self, source, settle, may_send)
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
        """Send QUIT, wait briefly for the reply, and close."""
        if self.wire.usable:
            self.wire.write(b"QUIT\r\n")
            # If it fails, the connection was about to close anyway.
            with contextlib.suppress(WireError):
                await self.wire.reply(self.timeouts.quit)
        await self.wire.close()

    def commands(self, outgoing: Outgoing) -> tuple[bytes, bytes, bytes]:
        """Return MAIL, RCPT and DATA for a message that `refusal` accepts."""
        envelope = outgoing.envelope
        options = f" SIZE={outgoing.octets}" if self._announced_size else ""
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
        """Return why this relay cannot take a message, as if it had replied; None if it can."""
        envelope = outgoing.envelope
        if self.max_octets and (octets := outgoing.octets) > self.max_octets:
            return Reply(552, "5.3.4", f"{octets} octets; the relay takes {self.max_octets} at most")
        both = envelope.sender + envelope.recipient
        if not both.isprintable():
            return Reply(553, "5.1.3", "the address contains control characters")
        if not self.smtputf8 and (envelope.smtputf8 or not both.isascii()):
            return Reply(553, "5.6.7", "the address needs SMTPUTF8, which the relay does not offer")
        return None


def _wants_body(answers: list[RawReply]) -> bool:
    """Return whether the server accepted MAIL and RCPT, and waits for the message."""
    if len(answers) != 3:
        return False
    mail, rcpt, data = answers
    return data.code == 354 and _positive(mail) and _positive(rcpt)


def _positive(answer: RawReply) -> bool:
    return 200 <= answer.code < 300


def _accepted(answers: list[RawReply]) -> tuple[bool, bool, bool]:
    """Return which of MAIL, RCPT and DATA the server accepted."""
    taken = [200 <= answer.code < 400 for answer in answers] + [False, False]
    return taken[0], taken[1], taken[2]


def _refusal(answers: list[RawReply]) -> tuple[Stage, RawReply]:
    """Return the first reply that is not the success of its command, and the command's stage."""
    for stage, answer in zip((Stage.MAIL, Stage.RCPT), answers, strict=False):
        if not _positive(answer):
            return stage, answer
    return Stage.DATA, answers[-1]


def _check_open(*answers: RawReply) -> None:
    """Raise `WireError` after a 421: the server is closing the connection (RFC 5321 section 3.8)."""
    if any(answer.code == 421 for answer in answers):
        raise WireError(_CLOSING)
