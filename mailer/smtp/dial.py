"""Opening an SMTP connection with aiosmtplib: connect, TLS, EHLO and login."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import aiosmtplib

from mailer.address import shown
from mailer.config import Relay, Security, is_loopback
from mailer.errors import RelayDownError, RelayError


class Dialled(NamedTuple):
    """A connection that is ready for MAIL."""

    transport: asyncio.Transport
    extensions: dict[str, str]
    """What EHLO announced; names in lower case."""
    greeted_as: str
    """The host name in the server's banner (RFC 5321 section 4.2), or empty."""


async def dial(
    relay: Relay,
    *,
    password: str,
    client_name: str | None,
    tls: ssl.SSLContext | None,
    connect_seconds: float,
    reply_seconds: float,
    awaiting: Callable[[str], None] = lambda step: None,
) -> Dialled:
    """Connect to a relay, protect the connection, greet the server and log in.

    Calls `awaiting` with the name of each step. Raises the same errors as `SmtpSession.open`.
    """
    awaiting("a connection")
    where = f"{relay.host}:{relay.port}"
    if relay.user and relay.security is Security.PLAIN and not is_loopback(relay.host):
        raise RelayError(
            f"{where}: will not send a password without TLS",
            remedy="set security to 'tls' or 'starttls' for this relay",
        )
    name = client_name or await asyncio.to_thread(_own_name)
    try:
        sock = await _connect(relay.host, relay.port, connect_seconds)
    except OSError as error:
        raise _opening_error(where, error) from error
    client = _client(relay, sock, name=name, tls=tls, reply_seconds=reply_seconds)
    ready = False
    try:
        awaiting("its greeting")
        banner = await client.connect()
        awaiting("its reply to EHLO")
        await _greet(client)
        if relay.security is Security.STARTTLS:
            awaiting("its reply to STARTTLS")
            await _start_tls(client, where)
        if relay.user:
            awaiting("its reply to the login")
            await client.login(relay.user, password)
        if client.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("the server closed the connection")
        ready = True
        # uvloop's transports have the methods of asyncio.Transport but do not inherit from it.
        transport = cast(asyncio.Transport, client.transport)
        return Dialled(transport, client.esmtp_extensions, _name_in(banner.message))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise _opening_error(where, error) from error
    finally:
        if not ready:
            # A polite close waits for the server's goodbye, which may never come.
            opened = cast(asyncio.Transport | None, client.transport)
            client.close()
            if opened is not None:
                opened.abort()


def _client(
    relay: Relay, sock: socket.socket, *, name: str | None, tls: ssl.SSLContext | None, reply_seconds: float
) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=relay.host,
        sock=sock,
        local_hostname=name or _literal(sock),
        timeout=reply_seconds,
        use_tls=relay.security is Security.TLS,
        start_tls=False,
        validate_certs=relay.verify_certificate,
        tls_context=tls,
    )


async def _connect(host: str, port: int, seconds: float) -> socket.socket:
    """Return a socket connected to the first address of the host that answers in time.

    aiosmtplib would wait as long for a connection as for the greeting: five minutes.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = OSError(errno.EADDRNOTAVAIL, "the name has no address")
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(seconds):
                await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            # asyncio would say "Connect call failed" and repeat the address.
            number = error.errno
            failure = (
                OSError(number, os.strerror(number)) if number else OSError(errno.ETIMEDOUT, "no answer")
            )
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


@functools.cache
def _own_name() -> str:
    """Return this machine's full name for EHLO, or an empty string if it has none."""
    name = socket.getfqdn()
    return name if "." in name and not name.endswith((".localdomain", ".local")) else ""


def _literal(sock: socket.socket) -> str:
    """Return our address as an address literal (RFC 5321 section 4.1.3), for machines without a name."""
    address = str(sock.getsockname()[0])
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


async def _greet(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code // 100 != 5 or not client.is_connected:
            raise
        await client.helo()


def _name_in(banner: str) -> str:
    """Return the host name that a banner begins with, or an empty string."""
    first = banner.split(maxsplit=1)[0] if banner.strip() else ""
    return first.lower() if "." in first and len(first) <= 255 and first.isprintable() else ""


async def _start_tls(client: aiosmtplib.SMTP, where: str) -> None:
    if not client.supports_extension("starttls"):
        raise RelayError(
            f"{where}: the server does not offer STARTTLS; nothing was sent",
            remedy="use the port for submission (587), or security = 'tls' with port 465",
        )
    await client.starttls()
    await _greet(client)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _opening_error(where: str, error: Exception) -> RelayError:
    """Return an error that tells the operator to wait for the relay or to change a setting."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return RelayError(
                f"{where}: its certificate is not trusted ({cause.verify_message})",
                remedy="use the name in the certificate as host, or trust its issuer on this machine",
            )
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return RelayError(
                f"{where}: the server does not speak TLS on this port",
                remedy="set security to 'starttls', or use port 465",
            )
    if isinstance(error, aiosmtplib.SMTPResponseException):
        said = f"{error.code} {shown(error.message)}"
        if not 500 <= error.code < 600:
            return RelayDownError(f"{where}: the server answered {said}", remedy="try again later")
        if isinstance(error, aiosmtplib.SMTPAuthenticationError) or error.code == 530:
            return RelayError(f"{where}: login refused: {said}", remedy="check user and password")
        return RelayError(f"{where}: the server refuses us: {said}", remedy="ask its operator")
    if isinstance(error, (ConnectionError, TimeoutError)) or not isinstance(error, aiosmtplib.SMTPException):
        reason = next((c.strerror for c in _causes(error) if isinstance(c, OSError) and c.strerror), error)
        return RelayDownError(
            f"{where}: cannot be reached ({reason})", remedy="check host, port and firewall"
        )
    return RelayError(f"{where}: {error}", remedy="check security, user and port of this relay")
