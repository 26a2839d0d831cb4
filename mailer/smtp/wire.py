"""Reading SMTP replies from a connection: parsed, bounded in size, and expected by a deadline."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import uvloop
from msgspec import Struct

from mailer.printable import blanked

# RFC 5321 section 4.5.3.1.5 allows 512 octets per line. Real servers stay far below these limits, however
# much they explain; one that never stops talking is cut off before it fills our memory.
MAX_REPLY_OCTETS: Final = 65_536
MAX_LINE_OCTETS: Final = 8_192
# One group of commands has five replies outstanding; more than this are unsolicited.
_MAX_UNREAD: Final = 32
_MAX_TEXT: Final = 2_000
_MAX_KNOWN: Final = 8
_SECOND_LOOK_SECONDS: Final = 0.05
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")


class Reply(Struct, frozen=True):
    """What a server answered (RFC 5321 section 4.2); `enhanced` is RFC 3463's code, or empty.

    `text` joins the lines with spaces, without codes. Spaces replace unprintable characters, because
    replies from servers we do not control are stored and shown on terminals.
    """

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


class RawReply(Struct, frozen=True):
    """A reply as received: the code, and the text of each line. Most are never parsed further."""

    code: int
    lines: Sequence[bytes]

    def read(self) -> Reply:
        """Return the parsed reply, its enhanced code removed from the text."""
        first, *others = self.lines
        text = first.decode("utf-8", "replace").strip()
        match = _ENHANCED.match(text)
        enhanced = "" if match is None else match[1]
        text = text[len(enhanced) :].strip()
        if others:
            texts = [line.decode("utf-8", "replace").strip() for line in others]
            texts = [text.removeprefix(enhanced).strip() for text in texts]
            text = " ".join(filter(None, [text, *texts]))
        text = text[:_MAX_TEXT]
        return Reply(self.code, enhanced, text if text.isprintable() else blanked(text))


class WireError(Exception):
    """Raised when the connection has ended or must be ended; never leaves the SMTP session."""


class ReplyReader:
    """Parses bytes into replies, however they are split."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._octets = 0
        self._known: dict[bytes, RawReply] = {}
        """The first whole replies of one line: a server repeats those to MAIL, RCPT and DATA word by word."""

    def feed(self, data: bytes) -> list[RawReply]:
        """Return the replies that `data` completes; raise `WireError` if it is not an SMTP reply.

        Lines may end in LF alone. A line of three digits is a whole reply.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        replies, known = [], self._known
        for line in lines:
            if not self._lines and (reply := known.get(line)) is not None:
                replies.append(reply)
                continue
            code, mark = line[:3], line[3:4]
            if not (code.isdigit() and len(code) == 3 and (mark in b" -" or mark == b"\r")):
                raise WireError("the server sent a line that is not an SMTP reply")
            self._lines.append(line[4:])
            self._octets += len(line)
            if self._octets > MAX_REPLY_OCTETS:
                raise WireError(f"the server sent a reply longer than {MAX_REPLY_OCTETS} octets")
            if mark != b"-":
                reply = RawReply(int(code), self._lines)
                replies.append(reply)
                if len(self._lines) == 1 and len(known) < _MAX_KNOWN:
                    known[line] = reply
                self._lines, self._octets = [], 0
        if len(self._rest) > MAX_LINE_OCTETS:
            raise WireError(f"the server sent a line longer than {MAX_LINE_OCTETS} octets")
        return replies


class Wire(asyncio.Protocol):
    """The reading and writing end of an SMTP connection that the caller has opened.

    One timer watches the connection and is rescheduled only when it fires, so a deadline costs each
    message no more than an assignment.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader()
        self.replies: deque[RawReply] = deque()
        """What has come and was not read yet."""
        self._heard: Callable[[], None] | None = None
        self._error: WireError | None = None
        self._deadline = 0.0
        self._patience_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._buffered = 0
        self.paused = False
        """Whether part of the last write is still in this process."""
        self.closed = self._loop.create_future()
        # uvloop hands all parts to the kernel in one call, without joining them. TLS would make a record of
        # each, and asyncio's own loop never pauses the protocol in CPython 3.12.0 to 3.12.8, 3.13.0 and
        # 3.13.1 (CVE-2024-12254), so that `paused` would be wrong.
        self._gathers = isinstance(self._loop, uvloop.Loop) and transport.get_extra_info("ssl_object") is None
        transport.set_protocol(self)
        if transport.is_closing():
            self._fail(WireError("the server closed the connection"))

    @property
    def usable(self) -> bool:
        """Whether the connection is open and no unexpected reply has arrived."""
        return self._error is None and not self.replies and not self._transport.is_closing()

    def write(self, *parts: bytes) -> None:
        """Write the parts in one go. The next `reply` reports a broken connection."""
        if not self._transport.is_closing():
            if self._gathers:
                self._transport.writelines(parts)
            else:
                self._transport.write(b"".join(parts))

    async def reply(self, timeout_seconds: float) -> RawReply:
        """Return the next reply; raise `WireError` if none will come or time runs out."""
        while not self.replies:
            heard = asyncio.Event()
            self.expect(timeout_seconds, heard.set)
            try:
                await heard.wait()
            finally:
                self._heard = None
        return self.replies.popleft()

    def expect(self, patience_seconds: float, heard: Callable[[], None]) -> None:
        """Call `heard` once: when replies come, all that was written has left, or the connection fails.

        It fails if the server neither answers nor takes any of the last write for so long. Raises
        `WireError` if it has failed already.
        """
        if self._error is not None:
            raise self._error
        self._heard = heard
        self._patience_seconds = patience_seconds
        self._buffered = self._transport.get_write_buffer_size()
        self._deadline = self._loop.time() + patience_seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._tick)

    async def close(self, *, seconds: float = 1.0) -> None:
        """Close and wait, at most this long, until the connection is gone."""
        self._transport.close()
        await asyncio.wait((self.closed,), timeout=seconds)
        self.abort()

    def abort(self) -> None:
        """Drop the connection without sending what is still buffered."""
        self._fail(WireError("the connection was closed"))
        # asyncio's transport raises an error if it has written its last data and closed already.
        if not self.closed.done():
            self._transport.abort()

    def _tick(self, second_look: bool = False) -> None:
        self._timer = None
        if self._heard is None:
            return
        now, left = self._loop.time(), self._transport.get_write_buffer_size()
        if left < self._buffered:
            # The server is still taking the last write: the time counts from its last progress.
            self._buffered, self._deadline = left, now + self._patience_seconds
        if now < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        elif not second_look:
            # uvloop runs timers before it reads: if this process was stopped, the reply may be here, unread.
            self._timer = self._loop.call_later(_SECOND_LOOK_SECONDS, self._tick, True)
        else:
            self._fail(WireError("the server did not answer in time"))
            self._transport.abort()

    def _fail(self, error: WireError) -> None:
        if self._error is None:
            self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._tell()

    def _tell(self) -> None:
        # Once only: `heard` itself says what to expect next.
        heard, self._heard = self._heard, None
        if heard is not None:
            heard()

    def data_received(self, data: bytes) -> None:
        """Part of `asyncio.Protocol`."""
        if self._error is not None:
            return
        try:
            self.replies.extend(self._reader.feed(data))
            if len(self.replies) > _MAX_UNREAD:
                raise WireError("the server sent unsolicited replies")
        except WireError as error:
            self._fail(error)
            self._transport.abort()
        else:
            if self.replies:
                self._tell()

    def pause_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self.paused = True

    def resume_writing(self) -> None:
        """Part of `asyncio.Protocol`."""
        self.paused = False
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of `asyncio.Protocol`."""
        reason = "the server closed the connection" if exc is None else f"the connection broke: {exc}"
        self._fail(WireError(reason))
        if not self.closed.done():
            self.closed.set_result(None)
