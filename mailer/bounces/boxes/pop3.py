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

    POP3 has no flags, so stored messages are deleted, by the QUIT at the end of the pass. If the connection
    breaks before that, nothing is deleted, and the next pass recognizes the messages as duplicates.
    """

    def __init__(self, section: Mailbox, password: Callable[[], str]) -> None:
        self._section = section
        self._password = password
        self._client: poplib.POP3 | None = None

    @property
    def source(self) -> str:
        """`pop3:` and the user and server."""
        return f"pop3:{self._section.user}@{self._section.host}"

    def __enter__(self) -> Pop3:
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
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is None:
            return
        if kind is None:
            with self._translated():
                self._client.quit()
        else:
            with contextlib.suppress(poplib.error_proto, OSError):
                self._client.quit()

    def mails(self) -> Iterator[Incoming]:
        """Yield every message. Raises `MailboxError` when the connection fails."""
        client = self._open
        with self._translated():
            count, _ = client.stat()
        for number in range(1, count + 1):
            with self._translated():
                _, lines, _ = client.retr(number)
            yield Incoming(str(number), b"\r\n".join(lines) + b"\r\n")

    def mark(self, mail: Incoming) -> None:
        """Have QUIT delete the message."""
        with self._translated():
            self._open.dele(int(mail.key))

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
