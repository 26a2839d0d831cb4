"""The people behind a number of an issue, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TextIO

from sqlalchemy import Connection

from mailer.audience.transfer.rejects import safe_cell
from mailer.database.tables import DeliveryState, SubscriberStatus
from mailer.delivery.listing import listing
from mailer.reports.people import leavers, responders

_RESPONSES: Final[dict[str, Literal["open", "click"]]] = {"opened": "open", "clicked": "click"}
_DEPARTURES: Final = {
    status.value: status
    for status in (SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED)
}
GROUPS: Final = (*(state.value for state in DeliveryState), *_RESPONSES, *_DEPARTURES)
"""The groups: the states of deliveries, what readers did, and how they left."""
_HEADS: Final = {
    "state": ("email", "attempts", "changed_at", "class", "answer"),
    "response": ("email", "first_at", "times"),
    "departure": ("email", "at", "way", "reason"),
}


def write_people(connection: Connection, target: TextIO, issue_id: int, group: str) -> int:
    """Write one of `GROUPS` as CSV, a row for each person, and return how many there are.

    Erased people are left out, and so is everyone who opened or clicked but does not agree to tracking now.
    No spreadsheet runs a cell as a formula.
    """
    writer = csv.writer(target)
    number = 0
    for number, row in enumerate(_rows(connection, issue_id, group)):  # noqa: B007 - the header is row 0
        writer.writerow([safe_cell(cell) for cell in row])
    return number


def _rows(connection: Connection, issue_id: int, group: str) -> Iterator[Sequence[str]]:
    if group in _RESPONSES:
        yield _HEADS["response"]
        for reader in responders(connection, issue_id, _RESPONSES[group]):
            yield reader.address, reader.first_at.isoformat(), str(reader.times)
    elif group in _DEPARTURES:
        yield _HEADS["departure"]
        for gone in leavers(connection, issue_id, _DEPARTURES[group]):
            yield gone.address, gone.at.isoformat(), gone.way, gone.note
    else:
        yield _HEADS["state"]
        for one in listing(connection, issue_id, DeliveryState(group)):
            if one.address is not None:
                changed = one.changed_at.isoformat() if one.changed_at else ""
                yield one.address, str(one.attempts), changed, one.bounce_class or "", one.answer
