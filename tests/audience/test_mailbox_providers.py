"""Subscribers are chosen by provider as the provider of their domain is judged."""

from __future__ import annotations

from sqlalchemy import not_, select

from mailer.address import parse_address
from mailer.audience import ledger
from mailer.audience.mailbox_providers import at_providers
from mailer.audience.transitions import Enrolment, Origin
from mailer.database.engine import Database
from mailer.database.tables import Subscriber, SubscriberStatus
from mailer.replies.mailbox_hosts import _PROVIDERS, provider_of
from tests.delivery.scene import AT

CONFIGURED = {
    "gmail.com": "ours", "hotmail.fi": "nordic", "mail.example": "google", "example.org": "example.org",
    "yahoo.example": "yahoo.example",
}  # fmt: skip
DOMAINS = {
    *(name.replace("*", end) for name in _PROVIDERS for end in ("com", "co.uk", "fi", "example")),
    *CONFIGURED, "example.com", "outlookx.com", "my-outlook.com", "outlook-mail.com", "xgmail.com",
    "a.gmail.com",
}  # fmt: skip


def test_provider_has_the_domains_that_are_judged_to_be_its_own(database: Database) -> None:
    enrolments = [
        Enrolment(parse_address(f"a@{domain}"), SubscriberStatus.ACTIVE, Origin("import"))
        for domain in sorted(DOMAINS)
    ]
    with database.transaction() as connection:
        ledger.enrol(connection, enrolments, at=AT)
    for configured in ({}, CONFIGURED):
        judged = {domain: provider_of(domain, configured) for domain in DOMAINS}
        with database.reading() as connection:
            for provider in {*judged.values(), "gmail.com", "unknown.example"}:
                among = at_providers([provider], configured)
                theirs = {domain for domain, name in judged.items() if name == provider}
                assert set(connection.scalars(select(Subscriber.c.domain).where(among))) == theirs
                others = set(connection.scalars(select(Subscriber.c.domain).where(not_(among))))
                assert others == DOMAINS - theirs
            both = at_providers(["google", "microsoft"], configured)
            found = set(connection.scalars(select(Subscriber.c.domain).where(both)))
            assert found == {name for name in DOMAINS if judged[name] in ("google", "microsoft")}
