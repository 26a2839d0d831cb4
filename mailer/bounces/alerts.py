"""Alerts for issues that bounce, or draw complaints, too often.

Nobody watches a run from beginning to end, so problems must announce themselves: a bought list, a missing
DKIM key, a provider that rejects everything. An issue's failed deliveries and complaints are compared with
the number of its deliveries that have been sent or have failed so far.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, func, insert, literal_column, select

from mailer.database.tables import ALERT, Delivery, Event, StoredIssue, StoredReport

_log = logging.getLogger(__name__)
_FAILED: Final = and_(Delivery.c.state == literal_column("'failed'"), Delivery.c.bounce_class.is_not(None))
# Smaller numbers mean little. An issue's deliveries are counted only when one of these has been reached or
# doubled since, because that reads all of them: about a dozen times for a million.
_FIRST_FAILED: Final = 20
_FIRST_COMPLAINTS: Final = 3


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """The percentages of an issue's deliveries at which to warn the operator."""

    bounces_percent: float = 5.0
    complaints_percent: float = 0.1


@dataclass(frozen=True, slots=True)
class Returns:
    """The failures and complaints of an issue that have just been reported."""

    failed: int = 0
    complaints: int = 0


_LIMITS: Final = AlertLimits()


def watch(
    connection: Connection, returns: Mapping[int, Returns], *, at: datetime, limits: AlertLimits = _LIMITS
) -> list[str]:
    """Write an alert for each issue over a limit; return the texts of the alerts.

    `returns` holds the new reports by issue; call this in the transaction that counted them. There is
    another alert on an issue each time its number has doubled.
    """
    alerts: list[str] = []
    for issue_id, new in returns.items():
        if new.failed and _is_due(failed := _count_failed(connection, issue_id), new.failed, _FIRST_FAILED):
            alerts += _alert(connection, issue_id, "bounces", failed, limits.bounces_percent, at)
        if new.complaints and _is_due(
            complaints := _count_complaints(connection, issue_id), new.complaints, _FIRST_COMPLAINTS
        ):
            alerts += _alert(connection, issue_id, "complaints", complaints, limits.complaints_percent, at)
    for text in alerts:
        _log.warning("%s", text)
    return alerts


def _is_due(now: int, new: int, first: int) -> bool:
    """Return whether a number that grew by `new` has passed `first`, or a doubling of it."""
    before = max(0, now - new)
    return now >= first and (now // first).bit_length() > (before // first).bit_length()


def _alert(
    connection: Connection, issue_id: int, what: str, count: int, threshold_percent: float, at: datetime
) -> list[str]:
    settled = connection.scalar(
        select(func.count())
        .select_from(Delivery)
        .where(Delivery.c.issue_id == issue_id, Delivery.c.state.in_(["sent", "failed"]))
    )
    share = 100.0 * count / max(settled or 0, count)
    if share < threshold_percent:
        return []
    slug = connection.scalar(select(StoredIssue.c.slug).where(StoredIssue.c.id == issue_id)) or str(issue_id)
    words = "came back" if what == "bounces" else "drew complaints"
    text = f"{slug}: {count:,} of {settled:,} messages {words} ({_shown(share)}%)"
    if what == "bounces":
        text += f", most of them {_commonest(connection, issue_id)}"
    details = {"of": what, "count": count, "settled": settled, "percent": share, "text": text}
    connection.execute(insert(Event).values(at=at, kind=ALERT, issue_id=issue_id, details=details))
    return [text]


def _shown(share: float) -> str:
    return f"{share:.0f}" if share >= 10 else f"{share:.2g}"


def _count_failed(connection: Connection, issue_id: int) -> int:
    counted = select(func.count()).select_from(Delivery).where(Delivery.c.issue_id == issue_id, _FAILED)
    return connection.scalar(counted) or 0


def _count_complaints(connection: Connection, issue_id: int) -> int:
    counted = select(func.count()).select_from(StoredReport)
    return (
        connection.scalar(
            counted.where(StoredReport.c.issue_id == issue_id, StoredReport.c.kind == "complaint")
        )
        or 0
    )


def _commonest(connection: Connection, issue_id: int) -> str:
    """Return the class of most of an issue's failed deliveries."""
    found = connection.scalar(
        select(Delivery.c.bounce_class)
        .where(Delivery.c.issue_id == issue_id, _FAILED)
        .group_by(Delivery.c.bounce_class)
        .order_by(func.count().desc())
        .limit(1)
    )
    return found or "undetermined"
