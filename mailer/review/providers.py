"""The deliveries of an issue by mailbox provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from mailer.config import ProviderLimits
from mailer.database.models import Delivery, DeliveryState, Subscriber
from mailer.replies.mailbox_hosts import provider_of

OTHERS: Final = "all others"


@dataclass(frozen=True, slots=True)
class ProviderBooks:
    """How many deliveries to one provider are in each state."""

    name: str
    states: Mapping[DeliveryState, int]

    @property
    def total(self) -> int:
        """All deliveries to the provider."""
        return sum(self.states.values())


def provider_books(
    session: Session, issue_id: int, configured: Mapping[str, ProviderLimits], *, most: int = 12
) -> list[ProviderBooks]:
    """Return the largest providers of an issue, the largest first, then all others together.

    This reads every delivery of the issue: a second for each million or so. Erased subscribers have no
    domain, so their deliveries are among the others.
    """
    names = {domain: name for name, limits in configured.items() for domain in limits.domains}
    counted = (
        select(Subscriber.domain, Delivery.state, func.count())
        .select_from(Delivery)
        .outerjoin(Subscriber, Subscriber.id == Delivery.subscriber_id)
        .where(Delivery.issue_id == issue_id)
        .group_by(Subscriber.domain, Delivery.state)
    )
    found: dict[str, Counter[DeliveryState]] = {}
    for domain, state, number in session.execute(counted):
        name = provider_of(domain, names) if domain else OTHERS
        found.setdefault(name, Counter())[DeliveryState(state)] += number
    known = sorted(set(found) - {OTHERS}, key=lambda name: (-found[name].total(), name))
    rest = found.get(OTHERS, Counter[DeliveryState]())
    for name in known[most:]:
        rest.update(found[name])
    books = [ProviderBooks(name, found[name]) for name in known[:most]]
    return [*books, ProviderBooks(OTHERS, rest)] if rest else books
