"""The deliveries of an issue by mailbox provider, while it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.database.models import Delivery, DeliveryState, Subscriber
from mailer.replies.mailbox_hosts import provider_of


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """The deliveries to one provider."""

    name: str
    recipients: int
    states: Mapping[DeliveryState, int]


def by_provider(session: Session, issue_id: int, configured: Mapping[str, str]) -> list[ProviderBooks]:
    """Return the deliveries of an issue by provider, the largest first.

    `configured` maps domains to configured providers. It reads all deliveries of the issue.
    """
    rows = session.execute(
        select(Subscriber.domain, Delivery.state, func.count())
        .join(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .where(Delivery.issue_id == issue_id)
        .group_by(Subscriber.domain, Delivery.state)
    )
    found: dict[str, Counter[DeliveryState]] = {}
    for domain, state, number in rows:
        found.setdefault(provider_of(domain, configured), Counter())[DeliveryState(state)] += number
    largest = sorted(found.items(), key=lambda item: (-item[1].total(), item[0]))
    return [ProviderBooks(name, states.total(), states) for name, states in largest]
