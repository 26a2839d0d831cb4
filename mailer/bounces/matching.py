"""Find the subscriber and delivery that a report is about, by signed token or by address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, func, select

from mailer.address import parse_address
from mailer.bounces.reading.report import BounceReport, RecipientReport
from mailer.database.tables import Delivery, DeliveryState, Subscriber
from mailer.errors import AddressError, TokenError
from mailer.tokens import Signer, Subject

# Feedback loops that hide the address write one of these words instead.
_HIDDEN: Final = ("redacted", "hidden", "removed", "anonymous", "undisclosed")


class Basis(StrEnum):
    """The evidence for a match."""

    TOKEN = "token"  # noqa: S105
    """A token that we signed."""
    ADDRESS = "address"
    """The reported address alone."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Match:
    """The delivery and subscriber of a report, and the part of the report that is about them."""

    basis: Basis
    subscriber_id: int | None = None
    issue_id: int | None = None
    recipient: RecipientReport | None = None
    foreign: bool = False
    """The token is ours, but the report names only other addresses."""
    bad_token: bool = False
    """The report contains something like a return path whose signature is not ours."""


def match(connection: Connection, signer: Signer, report: BounceReport) -> Match:
    """Return the subscriber a report is about. The most trustworthy token with our signature decides."""
    bad_token = False
    for token in _tokens(report):
        try:
            subject = signer.read_return_path(token)
        except TokenError:
            bad_token = True
            continue
        return _by_token(connection, subject, report)
    return _by_address(connection, report, bad_token=bad_token)


def address_key(text: str) -> str:
    """Return the normalized form of an address; other text is only case-folded."""
    try:
        return parse_address(text).key
    except AddressError:
        return text.casefold()


def _tokens(report: BounceReport) -> Iterator[str]:
    yield from report.envelope_tokens
    # Our Message-ID is the same token; letters add a dot and the time.
    local = report.message_id.partition("@")[0].partition(".")[0]
    if len(local) >= 20:
        yield local


def _by_token(connection: Connection, subject: Subject, report: BounceReport) -> Match:
    key = connection.scalar(select(Subscriber.c.address_key).where(Subscriber.c.id == subject.subscriber_id))
    issue_id = subject.issue_id or None
    if key is None:
        return Match(Basis.NONE, None, issue_id)
    named = [recipient for recipient in report.recipients if recipient.address]
    mine = next((recipient for recipient in named if key in _keys(recipient)), None)
    foreign = mine is None and bool(named) and not all(_is_hidden(recipient) for recipient in named)
    return Match(Basis.TOKEN, subject.subscriber_id, issue_id, mine, foreign)


def _by_address(connection: Connection, report: BounceReport, *, bad_token: bool) -> Match:
    """Return the one subscriber that the report names; none when it names several or nobody we mailed."""
    keys = {key: recipient for recipient in report.recipients for key in _keys(recipient)}
    found = connection.execute(
        select(Subscriber.c.id, Subscriber.c.address_key).where(
            Subscriber.c.address_key.in_(list(keys)[:500])
        )
    ).all()
    if len(found) != 1:
        return Match(Basis.NONE, bad_token=bad_token)
    newest = connection.scalar(
        select(func.max(Delivery.c.issue_id)).where(
            Delivery.c.subscriber_id == found[0].id, Delivery.c.state == DeliveryState.SENT.value
        )
    )
    return Match(Basis.ADDRESS, found[0].id, newest, keys[found[0].address_key], bad_token=bad_token)


def _keys(recipient: RecipientReport) -> Sequence[str]:
    return [address_key(text) for text in (recipient.address, recipient.original_address) if text]


def _is_hidden(recipient: RecipientReport) -> bool:
    return any(word in recipient.address.lower() for word in _HIDDEN)
