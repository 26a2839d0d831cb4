"""An LMTP server (RFC 2033), to which the mail server delivers reports as they arrive.

It accepts one recipient per transaction, so that the reply to DATA is about one message.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope, Session

from mailer.bounces.batch import record
from mailer.bounces.record import MAX_RAW_OCTETS, Recorded, Rules
from mailer.database.engine import Database
from mailer.errors import ListenError, StorageError, TokenError
from mailer.tokens import Signer

_MAX_MAIL_OCTETS: Final = 32 * MAX_RAW_OCTETS
_RETURN_PATH: Final = re.compile(r"b\.([a-z2-7]{1,64})@(.+)", re.IGNORECASE)
_log = logging.getLogger(__name__)


class _Lmtp(LMTP):
    """LMTP that accepts lines of any length: reports quote messages that others wrote."""

    line_length_limit = _MAX_MAIL_OCTETS


class Intake:
    """The LMTP commands: accepts our addresses and records messages."""

    def __init__(
        self,
        database: Database,
        signer: Signer,
        *,
        bounce_domain: str,
        rules: Rules,
        clock: Callable[[], datetime],
        told: Callable[[Recorded], None] = lambda recorded: None,
    ) -> None:
        self._database = database
        self._signer = signer
        self._domain = bounce_domain.lower()
        self._rules = rules
        self._clock = clock
        self._told = told

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: object, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Accept a return path that we signed or the unsubscribe address; reject all others."""
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        if not self._is_ours(address):
            return "550 5.1.1 No such address here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: object, session: Session, envelope: Envelope
    ) -> str:
        """Answer 250 once the message is committed, or 451 to keep it in the mail server's queue."""
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        # The envelope recipient is the best evidence, so put it where the parser looks first.
        raw = b"Delivered-To: " + envelope.rcpt_tos[0].encode("ascii", "replace") + b"\r\n" + content
        try:
            recorded = await asyncio.to_thread(
                record, self._database, self._signer, raw, source="lmtp", at=self._clock(), rules=self._rules
            )
        except StorageError as error:
            _log.error("%s", error)
            return "451 4.3.0 The message cannot be stored now"
        self._told(recorded)
        return f"250 2.0.0 Kept as report {recorded.report_id}"

    async def handle_exception(self, error: Exception) -> str:
        """Answer 451 after an unexpected error, so that the mail server tries again later."""
        _log.error("%s", error, exc_info=error)
        return "451 4.3.0 Something went wrong here"

    def _is_ours(self, address: str) -> bool:
        local, _, domain = self._rules.unsubscribe_address.lower().rpartition("@")
        given, _, given_domain = address.lower().rpartition("@")
        if local and given_domain == domain and given.partition("+")[0] == local:
            return True
        found = _RETURN_PATH.fullmatch(address)
        if found is None or found[2].lower() != self._domain:
            return False
        try:
            self._signer.read_return_path(found[1])
        except TokenError:
            return False
        return True


async def serve(intake: Intake, host: str, port: int, *, ready: Callable[[int], None]) -> None:
    """Serve LMTP until cancelled; `ready` gets the port. Raises `ListenError` if it cannot listen."""

    def session() -> _Lmtp:
        return _Lmtp(
            intake, hostname="localhost", ident="mailer", data_size_limit=_MAX_MAIL_OCTETS,
            enable_SMTPUTF8=True, timeout=300,
        )  # fmt: skip

    try:
        server = await asyncio.get_running_loop().create_server(session, host, port)
    except OSError as error:
        raise ListenError(host, port, error) from error
    async with server:
        ready(server.sockets[0].getsockname()[1])
        await server.serve_forever()
