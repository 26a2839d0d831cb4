"""Emails that were sent: as one reader got them, and an issue with the clicks on its links."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from sqlalchemy import Connection, select

from mailer.config import Settings
from mailer.database.tables import Delivery, DeliveryState, Run, Subscriber
from mailer.delivery import amending, arms, issues
from mailer.errors import SourceError
from mailer.rendering.edition import Edition
from mailer.review import linting
from mailer.review.filling import everybody
from mailer.review.viewing import Rendered, rendered

_BADGE = (
    '<span style="display:inline-block;margin:0 3px;padding:0 6px;border-radius:9px;background:#2d5bd0;'
    'color:#fff;font:600 12px/18px sans-serif">{}</span>'
)


def sent_message(connection: Connection, settings: Settings, issue_id: int, subscriber_id: int) -> Rendered:
    """Return the email that a subscriber got: their edition and arm, with their name and fields of today.

    Its links are the addresses they lead to. Raises `SourceError` if it was not sent to them.
    """
    row = connection.execute(
        select(Delivery.c.state, Run.c.edition)
        .outerjoin(Run, Run.c.id == Delivery.c.run_id)
        .where(Delivery.c.issue_id == issue_id, Delivery.c.subscriber_id == subscriber_id)
    ).first()
    reader = next(everybody(connection, Subscriber.c.id == subscriber_id), None)
    if row is None or row[0] != DeliveryState.SENT or reader is None:
        raise SourceError("this issue was not sent to this subscriber")
    digests = dict(enumerate(amending.digests(connection, issue_id), start=1))
    edition = issues.edition(connection, digests.get(row[1], issues.get(connection, issue_id).edition_digest))
    arm = arms.arms_of(connection, issue_id, [subscriber_id]).get(subscriber_id)
    if arm is not None:
        edition = arms.editions(connection, issue_id)[arm]
    found = rendered(
        edition, linting.sample_message(settings, edition, reader), public_url=settings.web.public_url
    )
    return Rendered(
        found.slug,
        _with_addresses(found.html, edition, settings.web.public_url),
        found.source,
        found.text,
        found.headers,
        found.message,
    )


def with_clicks(settings: Settings, edition: Edition, people: Mapping[int, int]) -> str:
    """Return the HTML of an edition in which each tracked link has the number of people who clicked it.

    `people` has the numbers by the link's place.
    """
    public_url = settings.web.public_url
    found = rendered(edition, linting.sample_message(settings, edition), public_url=public_url)

    def marked(link: re.Match[str]) -> str:
        return link[0] + _BADGE.format(f"{people.get(int(link[1]), 0):,}")

    counted = re.sub(rf"<a\b[^>]*{_tracked(public_url)}[^>]*>.*?</a>", marked, found.html, flags=re.S)
    return _with_addresses(counted, edition, public_url)


def _with_addresses(text: str, edition: Edition, public_url: str) -> str:
    """Return HTML whose tracked links lead to their targets without being counted."""

    def target(link: re.Match[str]) -> str:
        place = int(link[1])
        address = edition.links[place] if place < len(edition.links) else "#"
        return f'href="{html.escape(address)}"'

    return re.sub(_tracked(public_url), target, text)


def _tracked(public_url: str) -> str:
    """Return the pattern of a tracked link; its group is the link's place."""
    return rf'href="{re.escape(public_url.rstrip("/"))}/c/[\w.-]+/(\d{{1,4}})"'
