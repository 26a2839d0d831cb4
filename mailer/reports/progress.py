"""The deliveries of an issue by mailbox provider, while it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select

from mailer.database.tables import Delivery, DeliveryState, Subscriber
from mailer.replies.mailbox_hosts import provider_of

OTHERS: Final = "all others"


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """The deliveries to one provider."""

    name: str
    """Empty for erased subscribers, who have no domain."""
    recipients: int
    states: Mapping[DeliveryState, int]


def by_provider(connection: Connection, issue_id: int, configured: Mapping[str, str]) -> list[ProviderBooks]:
    """Return the deliveries of an issue by provider, the largest first.

    `configured` maps domains to configured providers. This reads every delivery of the issue: a second for
    each million or so.
    """
    rows = connection.execute(
        select(Subscriber.c.domain, Delivery.c.state, func.count())
        .select_from(Delivery)
        .outerjoin(Subscriber, Subscriber.c.id == Delivery.c.subscriber_id)
        .where(Delivery.c.issue_id == issue_id)
        .group_by(Subscriber.c.domain, Delivery.c.state)
    )
    found: dict[str, Counter[DeliveryState]] = {}
    for domain, state, number in rows:
        name = provider_of(domain, configured) if domain else ""
        found.setdefault(name, Counter())[DeliveryState(state)] += number
    by_size = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    return [ProviderBooks(name, states.total(), states) for name, states in by_size]


def largest(found: Sequence[ProviderBooks], most: int, *, others: str = OTHERS) -> list[ProviderBooks]:
    """Return the largest providers, then all others together under the name `others`."""
    shown = [one for one in found if one.name][:most]
    states: Counter[DeliveryState] = Counter()
    for one in found:
        if one not in shown:
            states.update(one.states)
    return [*shown, ProviderBooks(others, states.total(), states)] if states else shown
