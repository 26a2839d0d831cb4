"""Relays: TLS and login, and the names of those that deliver directly."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from mailer.config import Relay, Security, is_loopback, password
from mailer.doctor.findings import Finding, ok, problem, warning
from mailer.doctor.names import Address, Names
from mailer.doctor.senders import include_of
from mailer.errors import MailerError
from mailer.smtp.dial import dial
from mailer.smtp.tls import client_context

_CONNECT_SECONDS: Final = 10.0
_REPLY_SECONDS: Final = 20.0
_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class _Reached:
    greeted_as: str
    protocol: str
    expires_at: datetime | None


def connections(
    relays: Sequence[tuple[str, Relay]], folder: Path, greetings: dict[str, str], *, at: datetime
) -> Iterator[Finding]:
    """Connect and log in to each relay, and look at its certificate. Nothing is sent.

    Fills `greetings` with the name that each relay gives itself.
    """
    if not relays:
        yield warning(
            "relay",
            "[relays]",
            "there is no relay: messages stay in the outbox on this machine",
            remedy="add [relays.main] to config.toml",
        )
    for name, relay in relays:
        subject = f"{relay.host}:{relay.port}"
        try:
            reached = asyncio.run(_reach(relay, password(relay, folder) or ""))
        except MailerError as error:
            message = error.message.removeprefix(f"{subject}: ")
            yield problem("relay", subject, message, remedy=error.remedy or "check its settings")
            continue
        greetings[name] = reached.greeted_as
        if relay.security is Security.PLAIN:
            yield ok("relay", subject, "answers, without TLS, on this machine")
        elif not relay.verify_certificate:
            yield warning(
                "relay",
                subject,
                f"answers with {reached.protocol}, but its certificate is not verified",
                remedy="remove verify_certificate = false",
            )
        else:
            login = f", and accepts {relay.user}" if relay.user else ""
            yield expiry(
                "relay", subject, f"answers with {reached.protocol}{login}", reached.expires_at, at=at
            )


async def _reach(relay: Relay, secret: str) -> _Reached:
    reached = await dial(
        relay,
        password=secret,
        client_name=None,
        tls=None if relay.security is Security.PLAIN else client_context(verify=relay.verify_certificate),
        connect_seconds=_CONNECT_SECONDS,
        reply_seconds=_REPLY_SECONDS,
    )
    tls = reached.transport.get_extra_info("ssl_object")
    reached.transport.abort()
    return _Reached(reached.greeted_as, tls.version() if tls else "", expires_at(tls))


def expires_at(tls: ssl.SSLObject | None) -> datetime | None:
    """Return when the certificate of a connection expires; None if it was not verified."""
    found = tls.getpeercert() if tls is not None else None
    if not found or not isinstance(end := found.get("notAfter"), str):
        return None
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(end), UTC)


def expiry(check: str, subject: str, message: str, end: datetime | None, *, at: datetime) -> Finding:
    """Return a good finding, or a warning if the certificate expires soon."""
    if end is None:
        return ok(check, subject, message)
    if end - at < _SOON:
        return warning(
            check,
            subject,
            f"{message}; its certificate expires on {end:%Y-%m-%d}",
            remedy="renew it; does the renewal still run?",
        )
    return ok(check, subject, f"{message}; its certificate is valid until {end:%Y-%m-%d}")


def direct(relays: Sequence[tuple[str, Relay]]) -> list[tuple[str, Relay]]:
    """Return the relays that are not a known provider's, so that their names are the operator's matter."""
    return [(name, relay) for name, relay in relays if not include_of(relay.host)]


def own_names(
    names: Names, relays: Sequence[tuple[str, Relay]], greetings: dict[str, str]
) -> Iterator[Finding]:
    """Check the PTR records of relays, and that the name in EHLO belongs to the same address."""
    for name, relay in direct(relays):
        greeted = greetings.get(name, "")
        if is_loopback(relay.host):
            if not greeted:
                continue
            addresses = names.addresses(greeted)
            if not addresses:
                yield problem(
                    "helo",
                    greeted,
                    "the relay on this machine gives itself a name that has no address",
                    remedy="set the mail server's host name (myhostname in Postfix) to one that has",
                    record=f"{greeted}. IN A ADDRESS",
                )
        else:
            addresses = names.addresses(relay.host)
        for address in addresses:
            yield from _address(names, address, greeted or relay.host)


def _address(names: Names, address: Address, greeted: str) -> Iterator[Finding]:
    pointers = names.names_of(address)
    subject = str(address)
    record = f"{address.reverse_pointer}. IN PTR {greeted}."
    if not pointers:
        yield problem(
            "ptr",
            subject,
            "no PTR record; Gmail and others refuse mail from such an address",
            remedy="ask the owner of the address, usually your hosting provider, to set it",
            record=record,
        )
        return
    confirmed = [one for one in pointers if address in names.addresses(one)]
    if not confirmed:
        yield problem(
            "ptr",
            subject,
            f"its name {pointers[0]} does not lead back to it",
            remedy="make the PTR record and the address record agree",
            record=f"{pointers[0]}. IN {'A' if address.version == 4 else 'AAAA'} {address}",
        )
        return
    yield ok("ptr", subject, f"its name {confirmed[0]} leads back to it")
    if greeted in confirmed or address in names.addresses(greeted):
        yield ok("helo", greeted, f"belongs to {address}")
    else:
        yield warning(
            "helo",
            greeted,
            f"the relay gives itself this name, which does not belong to its address {address}",
            remedy=f"set the mail server's host name to {confirmed[0]}",
        )
