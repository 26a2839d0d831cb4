"""Subscribers as templates see them: `Recipient`, with the tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from sqlalchemy import Connection, select

from mailer.database.among import among
from mailer.database.tables import SubscriberTag
from mailer.rendering.recipient import Recipient

_TAGS: Final = (
    select(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag)
    .where(among(SubscriberTag.c.subscriber_id, "ids"))
    .order_by(SubscriberTag.c.subscriber_id, SubscriberTag.c.tag)
)


class _Person(Protocol):
    """A row of subscribers, or part of one."""

    @property
    def address(self) -> str:
        """The email address."""

    @property
    def name(self) -> str:
        """The name; may be empty."""

    @property
    def attributes(self) -> dict[str, object]:
        """The values that templates can use by name."""


def tags_of(connection: Connection, subscriber_ids: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Return the tags of each subscriber that has any, in alphabetical order."""
    if not subscriber_ids:
        return {}
    found: dict[int, tuple[str, ...]] = {}
    for subscriber_id, tag in connection.execute(_TAGS, {"ids": list(subscriber_ids)}):
        found[subscriber_id] = (*found.get(subscriber_id, ()), tag)
    return found


def recipient_of(subscriber_id: int, person: _Person, tags: Mapping[int, tuple[str, ...]]) -> Recipient:
    """Return a subscriber as templates see them; `tags` comes from `tags_of`."""
    return Recipient(
        subscriber_id, person.address, person.name, person.attributes, tags.get(subscriber_id, ())
    )
