"""A mailbox on a POP3 server (RFC 1939): messages are deleted there once they are stored here."""

from __future__ import annotations

import contextlib
import poplib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final

from mailer.bounces.boxes.fetch import Incoming
from mailer.config import Mailbox, Security
from mailer.errors import MailboxError, MailerError
from mailer.smtp.tls import client_context

_TIMEOUT_SECONDS: Final = 60
_MAX_LINE_OCTETS: Final = 4 * 1_048_576
_SESSION_MESSAGES: Final = 20
"""A session in which this many messages have been deleted is ended, and a new one begun."""


class _LongLines(poplib.POP3):
    """A client that takes long lines: poplib gives up at 2,048 octets, and bounced messages have more."""

    def _getline(self) -> tuple[bytes, int]:
        line = self.file.readline(_MAX_LINE_OCTETS + 1)
        if not line:
            raise poplib.error_proto("the server closed the connection")
        if len(line) > _MAX_LINE_OCTETS:
            raise poplib.error_proto("a line is too long")
        return line.rstrip(b"\r\n"), len(line)


class _LongLinesTls(_LongLines, poplib.POP3_SSL):
    """The same over TLS."""


class Pop3:
    """A POP3 mailbox; use it as a context manager.

    POP3 has no flags, so stored messages are deleted. The server deletes them only at QUIT (RFC 1939 section
    6), so a pass consists of several short sessions. If the connection breaks, the next pass gets at most the
    messages of one session again and recognizes them as duplicates.
    """

    def __init__(self, section: Mailbox, password: Callable[[], str]) -> None:
        self._section = section
        self._password = password
        self._client: poplib.POP3 | None = None
        self._deleted = 0
        """How many messages QUIT will delete."""

    @property
    def source(self) -> str:
        """`pop3:` and the user and server."""
        return f"pop3:{self._section.user}@{self._section.host}"

    def __enter__(self) -> Pop3:
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._quit()
        else:
            with contextlib.suppress(MailboxError):
                self._quit()

    def messages(self) -> Iterator[Incoming]:
        """Yield every message. Raises `MailboxError` when the connection fails."""
        with self._translated():
            count, _ = self._open.stat()
        number = 0
        for _ in range(count):
            if self._deleted >= _SESSION_MESSAGES:
                # Messages that were not deleted stay in front of the others.
                number -= self._deleted
                self._quit()
                self._connect()
            number += 1
            with self._translated():
                _, lines, _ = self._open.retr(number)
            yield Incoming(str(number), b"\r\n".join(lines) + b"\r\n")

    def mark(self, mail: Incoming) -> None:
        """Have QUIT delete the message."""
        with self._translated():
            self._open.dele(int(mail.key))
        self._deleted += 1

    def _connect(self) -> None:
        section = self._section
        secure = section.security is Security.TLS
        port = section.port or (poplib.POP3_SSL_PORT if secure else poplib.POP3_PORT)
        with self._translated():
            if secure:
                self._client = _LongLinesTls(
                    section.host,
                    port,
                    timeout=_TIMEOUT_SECONDS,
                    context=client_context(verify=section.verify_certificate),
                )
            else:
                self._client = _LongLines(section.host, port, timeout=_TIMEOUT_SECONDS)
        try:
            with self._translated():
                if section.security is Security.STARTTLS:
                    self._client.stls(client_context(verify=section.verify_certificate))
                self._client.user(section.user)
                self._client.pass_(self._password())
        except MailerError:
            self._client.close()
            self._client = None
            raise

    def _quit(self) -> None:
        client, self._client, self._deleted = self._client, None, 0
        if client is not None:
            with self._translated():
                client.quit()

    @property
    def _open(self) -> poplib.POP3:
        if self._client is None:
            raise MailboxError(f"{self.source}: not connected")
        return self._client

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (poplib.error_proto, OSError) as error:
            raise MailboxError(
                f"{self.source}: {error}", remedy="check [[bounces.boxes]], the server and the password"
            ) from error
