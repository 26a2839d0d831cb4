"""The built-in outbox: an SMTP server on this machine that keeps each message in a Maildir.

Installations without a relay send to it, so that a first run reaches nobody. With scripted answers it
also plays the faulty server of the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast
from weakref import WeakSet

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Envelope as SmtpEnvelope
from aiosmtpd.smtp import Session as SmtpSession

from mailer.config import Relay, Security
from mailer.errors import StorageError

# Returns the reply to RCPT, such as `550 5.1.1 No such user`, or None to accept the recipient.
Answer = Callable[[str], str | None]

_MAX_OCTETS = 32 * 1024 * 1024
_TURNS_TO_ACCEPT = 4
"""After this many turns of the loop, each connection that was accepted before has become a session."""
_UNSAFE = re.compile(r"[^\w.@+=-]")


class Outbox:
    """An SMTP server on a loopback port of its own choice. `async with` starts and stops it.

    It puts messages into `maildir/new` with `Return-Path` and `X-Original-To` before their own headers,
    like any server that makes the final delivery (RFC 5321 section 4.4).
    """

    def __init__(self, maildir: Path, *, answer: Answer | None = None) -> None:
        self._maildir = maildir
        self._answer = answer or (lambda recipient: None)
        self._server: asyncio.Server | None = None
        self._sessions: WeakSet[SMTP] = WeakSet()
        self._numbers = itertools.count(1)
        self._host = _UNSAFE.sub("_", socket.gethostname()) or "localhost"

    async def __aenter__(self) -> Outbox:
        try:
            for name in ("tmp", "new", "cur"):
                (self._maildir / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(
                f"{self._maildir}: {error.strerror}", remedy="name another folder in [paths] outbox"
            ) from error
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(_TURNS_TO_ACCEPT):
            await asyncio.sleep(0)
        for session in self._sessions:
            # uvloop's transports have the methods of asyncio.Transport but do not inherit from it.
            if (transport := cast(asyncio.Transport | None, session.transport)) is not None:
                transport.abort()
        await self._server.wait_closed()

    def relay(self, connections: int = 4) -> Relay:
        """Return the relay settings for reaching the outbox."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return Relay(
            host="127.0.0.1",
            port=port,
            security=Security.PLAIN,
            connections=connections,
            messages_per_connection=1_000_000,
        )

    def _protocol(self) -> SMTP:
        session = SMTP(
            self,
            data_size_limit=_MAX_OCTETS,
            enable_SMTPUTF8=True,
            hostname="outbox.localhost",
            ident="mailer outbox",
        )
        self._sessions.add(session)
        return session

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: SmtpSession, envelope: SmtpEnvelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce PIPELINING and ENHANCEDSTATUSCODES as well."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", responses[-1]]

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: SmtpSession, envelope: SmtpEnvelope, address: str, options: list[str]
    ) -> str:
        """Accept a recipient, or give the scripted answer."""
        if refusal := self._answer(address):
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient fine"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: SmtpSession, envelope: SmtpEnvelope
    ) -> str:
        """Store the message; reply 452 if it cannot be written."""
        content = envelope.content
        assert isinstance(content, bytes)
        top = f"Return-Path: <{envelope.mail_from}>\r\n" + "".join(
            f"X-Original-To: {recipient}\r\n" for recipient in envelope.rcpt_tos
        )
        number = next(self._numbers)
        # A Maildir file name: seconds, a unique part, the host and the size.
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        unique = f"M{nanoseconds // 1000}P{os.getpid()}Q{number}"
        name = f"{seconds}.{unique}.{self._host},S={len(top) + len(content)}"
        try:
            (self._maildir / "tmp" / name).write_bytes(top.encode() + content)
            (self._maildir / "tmp" / name).rename(self._maildir / "new" / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                (self._maildir / "tmp" / name).unlink()
            return f"452 4.3.1 The outbox cannot store it: {error.strerror}"
        return f"250 2.0.0 Kept as {number}"
