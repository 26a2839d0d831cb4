"""The tables of config.toml about readers: the pages, signing up, consent, and what is kept of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from mailer.config.values import (
    REASON,
    TAG,
    Check,
    HttpUrl,
    Port,
    Section,
    at_least,
    checked_domains,
    checked_networks,
    checked_root_url,
    labels,
)


class Web(Section, frozen=True, kw_only=True):
    """`[web]`: the public pages."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "tags": labels(TAG, "1 to 64 characters without blanks around them", 50),
        "reasons": labels(REASON, "small letters, digits and hyphens, 32 at most", 12),
        "proxies": checked_networks,
        "public_url": checked_root_url,
    }

    public_url: HttpUrl = "http://127.0.0.1:8600"
    """Where readers reach the pages: a host without a path. https except on loopback."""
    host: str = "127.0.0.1"
    port: Port = 8600
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses or networks of the proxies in front, whose X-Forwarded-For is believed."""
    welcome: bool = True
    """Whether who has confirmed gets the letter of `email_templates/letters/welcome.md`."""
    goodbye: bool = False
    """Whether who left by a page of ours gets `goodbye.md`; a mail program's one click never brings it."""
    index: bool = True
    """Whether search engines may list the archive; token pages are never listed."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """Tags that subscribers tick and untick on their page, and what each is called there."""
    reasons: dict[str, str] = msgspec.field(default_factory=dict)
    """Why people leave: the word that is counted, and how the page says it; empty means our own four."""


class SignUp(Section, frozen=True, kw_only=True):
    """`[signup]`: who may ask to be on the list by the form or the API, and how often, an hour."""

    CHECKS: ClassVar[dict[str, Check]] = {"refused_domains": checked_domains}

    roles: bool = True
    """Whether an address of a role, such as info@ (RFC 2142), may ask; several people may read it."""
    disposable: bool = True
    """Whether an address at a provider of mailboxes that are thrown away after minutes may ask."""
    refused_domains: tuple[str, ...] = ()
    """Domains from which nobody may ask, those under them included."""
    per_client: Annotated[int, Meta(ge=1)] = 10
    """Of one IPv4 address, or one IPv6 network of 64 bits."""
    per_domain: Annotated[int, Meta(ge=1)] = 500
    in_all: Annotated[int, Meta(ge=1)] = 5_000


class Tracking(Section, frozen=True, kw_only=True):
    """`[tracking]`: off unless asked for; a person is noted only with their own consent."""

    opens: bool = False
    clicks: bool = False


class Retention(Section, frozen=True, kw_only=True):
    """`[retention]`: how long personal records are kept; the books and the ledger's lines stay."""

    CHECKS: ClassVar[dict[str, Check]] = dict.fromkeys(
        ("events", "reports", "replies", "evidence"), at_least(timedelta(days=1))
    )

    events: timedelta = timedelta(days=400)
    """Opens, clicks, soft bounces."""
    reports: timedelta = timedelta(days=180)
    """Raw bounces and complaints; what they were found to say stays."""
    replies: timedelta = timedelta(days=180)
    """What servers answered, counted from the end of the issue."""
    evidence: timedelta = timedelta(days=1095)
    """IP address, form and note of a consent, counted from when the person left."""


class ImportFile(Section, frozen=True, kw_only=True):
    """`[imports.NAME]`: what the columns of a file mean, for `mailer subscribers import --preset NAME`.

    Columns that are named must be in the file; the others are found by their usual names, or are attributes.
    """

    email: str = ""
    name: str = ""
    tags: str = ""
    """The column of tags, separated by commas."""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """What an attribute is called here, and the column it comes from."""
    skip: tuple[str, ...] = ()
    """Columns that are not kept."""
    status: str = ""
    """The column that says who is out; what stands in it, in any case, is listed in the four below."""
    unsubscribed: tuple[str, ...] = ()
    bounced: tuple[str, ...] = ()
    complained: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    """Who never confirmed: not brought in, and nothing is recorded of them."""

    def __post_init__(self) -> None:
        """Check what the keys say together; raise `ValueError`."""
        Section.__post_init__(self)
        said = [
            one.lower() for one in (*self.unsubscribed, *self.bounced, *self.complained, *self.unconfirmed)
        ]
        if bool(said) != bool(self.status):
            raise ValueError(
                "status names the column, and unsubscribed, bounced, complained or unconfirmed what it says: "
                "give both or neither"
            )
        if twice := next((one for one in said if said.count(one) > 1), None):
            raise ValueError(f"'{twice}' in the column '{self.status}' can't have two meanings")
