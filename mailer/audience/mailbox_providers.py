"""Subscribers by their mailbox provider."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sqlalchemy import ColumnElement, and_, false, or_

from mailer.database.tables import Subscriber
from mailer.replies.mailbox_hosts import domains_of


def at_providers(
    providers: Iterable[str], configured: Mapping[str, str] = MappingProxyType({})
) -> ColumnElement[bool]:
    """Return the condition that selects the subscribers at one of these mailbox providers.

    A domain without a known provider is its own one. `configured` maps domains to configured providers.
    """
    return or_(false(), *(_at(provider, configured) for provider in providers))


def _at(provider: str, configured: Mapping[str, str]) -> ColumnElement[bool]:
    found = domains_of(provider, configured)
    named = Subscriber.c.domain.in_(sorted(found.names))
    if not found.labels:
        return named
    under = (Subscriber.c.domain.startswith(f"{label}.", autoescape=True) for label in sorted(found.labels))
    return or_(named, and_(or_(*under), Subscriber.c.domain.not_in(sorted(found.others))))
