"""The tables of config.toml about readers: pages, sign-up, tracking, retention and imports."""

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
    """Whether people get `email_templates/letters/welcome.md` after confirming."""
    goodbye: bool = False
    """Whether people get `goodbye.md` after unsubscribing on our pages; one-click never sends it."""
    index: bool = True
    """Whether search engines may list the archive; token pages are never listed."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """Tags that subscribers can choose on their page, with their labels."""
    reasons: dict[str, str] = msgspec.field(default_factory=dict)
    """Reasons for unsubscribing: the counted word and its label; empty means the four built-in ones."""


class SignUp(Section, frozen=True, kw_only=True):
    """`[signup]`: who may sign up by the form or the API, and how many sign-ups an hour are accepted."""

    CHECKS: ClassVar[dict[str, Check]] = {"refused_domains": checked_domains}

    roles: bool = True
    """Whether role addresses such as info@ (RFC 2142), which several people may read, may sign up."""
    disposable: bool = True
    """Whether addresses at disposable-mailbox providers may sign up."""
    refused_domains: tuple[str, ...] = ()
    """Domains, including their subdomains, whose addresses may not sign up."""
    per_client: Annotated[int, Meta(ge=1)] = 10
    """For each IPv4 address or IPv6 /64 network."""
    per_domain: Annotated[int, Meta(ge=1)] = 500
    in_all: Annotated[int, Meta(ge=1)] = 5_000


class Tracking(Section, frozen=True, kw_only=True):
    """`[tracking]`: off by default; people are tracked only with their own consent."""

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
    """Raw bounces and complaints; their classification stays."""
    replies: timedelta = timedelta(days=180)
    """The text of SMTP replies, counted from the end of the issue."""
    evidence: timedelta = timedelta(days=1095)
    """IP address, form and note of a consent, counted from when the person unsubscribed."""


class ImportFile(Section, frozen=True, kw_only=True):
    """`[imports.NAME]`: the meaning of columns, for `mailer subscribers import --preset NAME`.

    Columns named here must be in the file; others are recognised by common names or become attributes.
    """

    email: str = ""
    name: str = ""
    tags: str = ""
    """The column of tags, separated by commas."""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """Attribute name to column."""
    skip: tuple[str, ...] = ()
    """Columns to ignore."""
    status: str = ""
    """The column that says who is out; the next four keys list its values, in any case."""
    unsubscribed: tuple[str, ...] = ()
    bounced: tuple[str, ...] = ()
    complained: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    """People who never confirmed: not added, and nothing is recorded."""

    def __post_init__(self) -> None:
        """Check the combination of keys; raise `ValueError`."""
        Section.__post_init__(self)
        said = [
            one.lower() for one in (*self.unsubscribed, *self.bounced, *self.complained, *self.unconfirmed)
        ]
        if bool(said) != bool(self.status):
            raise ValueError(
                "status (a column) and its values in unsubscribed, bounced, complained or unconfirmed "
                "belong together: give both or neither"
            )
        if twice := next((one for one in said if said.count(one) > 1), None):
            raise ValueError(f"'{twice}' in the column '{self.status}' can't have two meanings")
