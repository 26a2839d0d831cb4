"""The tables of config.toml about readers: pages, sign-up, tracking, retention and imports.

The docstrings of tables and keys become the configuration reference.
"""

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
    checked_hub,
    checked_networks,
    checked_root_url,
    labels,
)


class Web(Section, frozen=True, kw_only=True):
    """`[web]`: the public pages."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "tags": labels(TAG, "1 to 64 characters without spaces around them", 50),
        "reasons": labels(REASON, "small letters, digits and hyphens, 32 at most", 12),
        "proxies": checked_networks,
        "public_url": checked_root_url,
        "hub": checked_hub,
    }

    public_url: HttpUrl = "http://127.0.0.1:8600"
    """The address of your pages, without a path; links in messages begin with it. It must use https,
    except on this machine."""
    host: str = "127.0.0.1"
    """The address that `mailer serve` listens on."""
    port: Port = 8600
    """The port that `mailer serve` listens on."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses and networks of your reverse proxies, whose `X-Forwarded-For` is trusted."""
    welcome: bool = True
    """Whether people get a welcome letter after they confirm."""
    goodbye: bool = False
    """Whether people get a letter after they unsubscribe on your pages. One-click never sends one."""
    index: bool = True
    """Whether search engines may index the archive. Personal pages are never indexed."""
    hub: str = ""
    """The address of a WebSub hub, such as `https://pubsubhubbub.appspot.com/`. `mailer serve` notifies it
    when an issue appears in the feeds or changes there."""
    tags: dict[str, str] = msgspec.field(default_factory=dict)
    """Tags that subscribers can choose on their page, with their labels."""
    reasons: dict[str, str] = msgspec.field(default_factory=dict)
    """Reasons for unsubscribing: the word that is counted, and its label. If empty, the four built-in
    reasons are offered."""


class SignUp(Section, frozen=True, kw_only=True):
    """`[signup]`: who may sign up with the form or the API, and how many sign-ups per hour are accepted."""

    CHECKS: ClassVar[dict[str, Check]] = {"refused_domains": checked_domains}

    roles: bool = True
    """Whether role addresses such as info@ and sales@ (RFC 2142), which several people may read, can sign
    up."""
    disposable: bool = True
    """Whether disposable addresses can sign up."""
    refused_domains: tuple[str, ...] = ()
    """Domains that cannot sign up, including their subdomains."""
    per_client: Annotated[int, Meta(ge=1)] = 10
    """Sign-ups per hour from one IPv4 address or IPv6 /64 network."""
    per_domain: Annotated[int, Meta(ge=1)] = 500
    """Sign-ups per hour with addresses of one domain."""
    in_all: Annotated[int, Meta(ge=1)] = 5_000
    """Sign-ups per hour in all."""


class Tracking(Section, frozen=True, kw_only=True):
    """`[tracking]`: opens and clicks. Nothing is recorded for a person without their own consent."""

    opens: bool = False
    """Whether messages contain an image that reports opens."""
    clicks: bool = False
    """Whether links lead through your pages, so that clicks are counted."""


class Retention(Section, frozen=True, kw_only=True):
    """`[retention]`: how long personal records are kept. The books and the lines of the ledger stay."""

    CHECKS: ClassVar[dict[str, Check]] = dict.fromkeys(
        ("events", "reports", "replies", "evidence"), at_least(timedelta(days=1))
    )

    events: timedelta = timedelta(days=400)
    """Opens, clicks and soft bounces."""
    reports: timedelta = timedelta(days=180)
    """The original messages of bounces and complaints; their classification stays."""
    replies: timedelta = timedelta(days=180)
    """The text of SMTP replies, counted from the end of the issue."""
    evidence: timedelta = timedelta(days=1095)
    """IP address, form and note of a consent, counted from the time the person unsubscribed."""


class ImportFile(Section, frozen=True, kw_only=True):
    """`[imports.NAME]`: the columns of a file, for `mailer subscribers import --preset NAME`.

    The columns named here must be in the file. Others are recognised by common names or become attributes.
    """

    email: str = ""
    """The column with the address."""
    name: str = ""
    """The column with the name."""
    tags: str = ""
    """The column with tags, separated by commas."""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    """The name of each attribute, and its column."""
    skip: tuple[str, ...] = ()
    """Columns to leave out."""
    status: str = ""
    """The column with the status; the next four keys list its values, in any case."""
    unsubscribed: tuple[str, ...] = ()
    """Values for people who unsubscribed."""
    bounced: tuple[str, ...] = ()
    """Values for addresses that bounced."""
    complained: tuple[str, ...] = ()
    """Values for people who complained."""
    unconfirmed: tuple[str, ...] = ()
    """Values for people who never confirmed. They are not added, and nothing is recorded."""

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
