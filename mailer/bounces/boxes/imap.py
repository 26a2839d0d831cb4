"""A mailbox on an IMAP server (RFC 3501): unseen messages, marked as seen once they are stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final

from imapclient import SEEN, IMAPClient
from imapclient.exceptions import IMAPClientError

from mailer.bounces.boxes.fetch import Incoming
from mailer.bounces.record import MAX_RAW_OCTETS
from mailer.config import Mailbox, Security
from mailer.errors import MailboxError, MailerError
from mailer.smtp.tls import client_context

_TIMEOUT_SECONDS: Final = 60
# Servers may end an IDLE after half an hour (RFC 2177).
_LONGEST_IDLE_SECONDS: Final = 29 * 60
_SLICE_SECONDS: Final = 1.0


class Imap:
    """An IMAP folder that receives only reports; use it as a context manager."""

    def __init__(self, section: Mailbox, password: Callable[[], str]) -> None:
        self._section = section
        self._password = password
        self._client: Any = None

    @property
    def source(self) -> str:
        """`imap:` and the user and server."""
        return f"imap:{self._section.user}@{self._section.host}"

    def __enter__(self) -> Imap:
        section = self._section
        context = client_context(verify=section.verify_certificate)
        with self._translated():
            self._client = IMAPClient(
                section.host,
                port=section.port,
                ssl=section.security is Security.TLS,
                ssl_context=context if section.security is Security.TLS else None,
                timeout=_TIMEOUT_SECONDS,
            )
        try:
            with self._translated():
                if section.security is Security.STARTTLS:
                    self._client.starttls(context)
                self._client.login(section.user, self._password())
                self._client.select_folder(section.folder)
        except MailerError:
            self._client.shutdown()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The messages are already marked, so an error here does no harm.
        with contextlib.suppress(IMAPClientError, OSError):
            self._client.logout()

    def messages(self) -> Iterator[Incoming]:
        """Yield the unseen messages, oldest first. Raises `MailboxError` when the connection fails."""
        wanted = f"BODY.PEEK[]<0.{MAX_RAW_OCTETS}>"
        with self._translated():
            uids = sorted(self._client.search("UNSEEN"))
        for uid in uids:
            with self._translated():
                found = self._client.fetch([uid], [wanted]).get(uid, {})
            raw = next((value for name, value in found.items() if name.startswith(b"BODY[]")), None)
            if isinstance(raw, bytes):
                yield Incoming(str(uid), raw)

    def mark(self, mail: Incoming) -> None:
        """Set the flag \\Seen."""
        with self._translated():
            self._client.add_flags([int(mail.key)], [SEEN], silent=True)

    def wait(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait with IDLE (RFC 2177) until the folder changes, `stopped` returns true, or `seconds` pass."""
        end = time.monotonic() + min(seconds, _LONGEST_IDLE_SECONDS)
        with self._translated():
            self._client.idle()
            while (left := end - time.monotonic()) > 0 and not stopped():
                if self._client.idle_check(timeout=min(left, _SLICE_SECONDS)):
                    break
            self._client.idle_done()

    def can_wait(self) -> bool:
        """Return whether the server announces IDLE."""
        with self._translated():
            return bool(self._client.has_capability("IDLE"))

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (IMAPClientError, OSError) as error:
            raise MailboxError(
                f"{self.source}: {error}", remedy="check [[bounces.boxes]], the server and the password"
            ) from error
