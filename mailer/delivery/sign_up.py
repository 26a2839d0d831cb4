"""Double opt-in: a request is stored, answered by a confirmation letter, and confirmed from its link.

1. `store_requests` keeps a request. It does the same for every address, so a form can wait for it and
   neither the answer nor its timing shows who is subscribed.
2. `answer_requests` turns stored requests into pending subscribers and confirmation letters. It runs
   after the form was answered, and again at the next start if the process ended in between.
3. `confirm` makes the subscriber active.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from mailer.address import Address, parse_address
from mailer.audience.ledger import change_status, unsubscribe_all
from mailer.audience.subscribers import add, find, get
from mailer.audience.transitions import Origin, SubscriberRequest
from mailer.database.engine import Database
from mailer.database.rows import insert_rows
from mailer.database.tables import SignUpRequest, SubscriberStatus, TableRow
from mailer.delivery import letters
from mailer.delivery.letters import LetterKind
from mailer.errors import MailerError

BETWEEN_LETTERS: Final = timedelta(hours=24)
"""An address gets one confirmation letter in this time, however often it is typed into the form."""
_BATCH: Final = 100
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewSignUp:
    """A sign-up from a form or the API; `language` is that of the letter."""

    address: Address
    origin: Origin
    at: datetime
    name: str = ""
    language: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


def store_requests(connection: Connection, requests: Sequence[NewSignUp]) -> list[None]:
    """Keep requests until `answer_requests` has dealt with them."""
    rows = [
        {
            "at": request.at,
            "address": str(request.address),
            "details": {
                "name": request.name,
                "language": request.language,
                "attributes": dict(request.attributes),
                "tags": list(request.tags),
                "origin": asdict(request.origin),
            },
        }
        for request in requests
    ]
    insert_rows(connection, SignUpRequest, rows)
    return [None] * len(requests)


def answer_requests(database: Database, *, secret: bytes) -> int:
    """Answer all stored requests; return how many letters were queued.

    `secret` recognises addresses that were erased. A request that fails is logged and dropped, so that
    it does not hold up the others. Raises `StorageError` while the database cannot be written.
    """
    count = 0
    while True:
        with database.transaction() as connection:
            stored = connection.execute(
                select(SignUpRequest)
                .order_by(SignUpRequest.c.id)
                .limit(_BATCH)
                .with_for_update(skip_locked=True)
            ).all()
            for one in stored:
                count += _answer(connection, one, secret)
            done = SignUpRequest.c.id.in_([one.id for one in stored])
            connection.execute(delete(SignUpRequest).where(done))
        if len(stored) < _BATCH:
            return count


def _answer(connection: Connection, stored: TableRow, secret: bytes) -> bool:
    try:
        with connection.begin_nested():
            return _invite(connection, _request(stored), secret)
    except DBAPIError as error:
        if not isinstance(error, DataError | IntegrityError):
            # The database is at fault, not the request.
            raise
        _log.exception("a sign-up request was dropped")
    except MailerError as error:
        _log.error("a sign-up request was dropped: %s", error)
    except Exception:
        _log.exception("a sign-up request was dropped")
    return False


def _request(stored: TableRow) -> NewSignUp:
    details = stored.details
    return NewSignUp(
        address=parse_address(stored.address),
        origin=Origin(**details["origin"]),
        at=stored.at,
        name=details["name"],
        language=details["language"],
        attributes=details["attributes"],
        tags=tuple(details["tags"]),
    )


def _invite(connection: Connection, request: NewSignUp, secret: bytes) -> bool:
    """Queue a confirmation letter; return whether one was needed.

    None is needed if the address is subscribed, was erased, or got such a letter in the last day.
    """
    subscriber_id = _pending(connection, request, secret)
    if subscriber_id is None:
        return False
    letters.put(connection, subscriber_id, LetterKind.CONFIRMATION, at=request.at, language=request.language)
    return True


def _pending(connection: Connection, request: NewSignUp, secret: bytes) -> int | None:
    known = find(connection, request.address)
    if known is None:
        added = add(
            connection,
            request.address,
            secret=secret,
            origin=request.origin,
            at=request.at,
            name=request.name,
            attributes=request.attributes,
            tags=request.tags,
            status=SubscriberStatus.PENDING,
        )
        return added.subscriber_id
    # Anyone can type an address into the form, so it changes nothing that we know about its owner.
    if known.status in (SubscriberStatus.ACTIVE, SubscriberStatus.ERASED):
        return None
    since = request.at - BETWEEN_LETTERS
    if letters.asked_since(connection, known.id, LetterKind.CONFIRMATION, since=since):
        return None
    return known.id


def confirm(
    connection: Connection, confirmations: Sequence[tuple[SubscriberRequest, str | None]]
) -> list[bool]:
    """Activate subscribers; return for each whether they are active now.

    Each change comes with the language of the welcome letter, or None for no letter. Confirming again
    sends nothing.
    """
    outcomes: list[bool] = []
    for change, language in confirmations:
        active = SubscriberStatus.ACTIVE
        changed = change_status(connection, change.subscriber_id, active, origin=change.origin, at=change.at)
        if changed and language is not None:
            letters.put(connection, change.subscriber_id, LetterKind.WELCOME, at=change.at, language=language)
        person = get(connection, change.subscriber_id)
        outcomes.append(person is not None and person.status is active)
    return outcomes


def unsubscribe_with_goodbye(
    connection: Connection, changes: Sequence[tuple[SubscriberRequest, str]]
) -> list[bool]:
    """Unsubscribe people; queue a goodbye letter in their language for each whose status changed."""
    outcomes = unsubscribe_all(connection, [change for change, _ in changes])
    for (change, language), changed in zip(changes, outcomes, strict=True):
        if changed:
            letters.put(connection, change.subscriber_id, LetterKind.GOODBYE, at=change.at, language=language)
    return outcomes
