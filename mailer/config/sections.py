"""The tables of config.toml and their keys."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mailer.config.readers import ImportFile, Retention, SignUp, Tracking, Web
from mailer.config.values import (
    Check,
    Colour,
    Language,
    Port,
    Secret,
    Section,
    Share,
    WebUrl,
    at_least,
    checked_address,
    checked_domain,
    checked_domains,
    checked_header_text,
    expanded,
    is_loopback,
)


class Newsletter(Section, frozen=True, kw_only=True):
    """`[newsletter]`: the author, and what every message says about the newsletter."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": checked_header_text,
        "description": checked_header_text,
        "frequency": checked_header_text,
        "author_name": checked_header_text,
        "author_address": checked_address,
        "reply_to": checked_address,
        "list_id": checked_domain,
    }

    name: str = "My newsletter"
    description: str = ""
    """One or two sentences for new readers; shown on the home page and in feeds."""
    frequency: str = ""
    """How often it comes out, in your words (`every Friday`); shown on the home page."""
    author_name: str = ""
    """Display name of From:; empty means the newsletter's name."""
    author_address: str = "newsletter@example.org"
    reply_to: str = ""
    """Reply-To:; empty leaves the header out."""
    list_id: str = ""
    """`label.namespace` of RFC 2919; derived from the name and the author's domain if empty."""
    postal_address: str = ""
    """Shown in every footer; required for public relays (CAN-SPAM)."""
    language: Language = "en"
    words_per_minute: Annotated[int, Meta(ge=50, le=1000)] = 250

    @property
    def author_domain(self) -> str:
        """The domain of From:, which DKIM and DMARC align with."""
        return self.author_address.rpartition("@")[2]


class Brand(Section, frozen=True, kw_only=True):
    """`[brand]`: the design of emails and pages."""

    CHECKS: ClassVar[dict[str, Check]] = {"logo_alt": checked_header_text}

    accent: Colour = "#0b6e4f"
    text: Colour = "#1f2328"
    background: Colour = "#f6f5f1"
    surface: Colour = "#ffffff"
    font: str = "Georgia, 'Times New Roman', serif"
    heading_font: str = "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
    logo_url: str = ""
    logo_alt: str = ""
    social: dict[str, WebUrl] = msgspec.field(default_factory=dict)
    """Label to URL; shown as text links, never as hot-linked icons."""


class Rendering(Section, frozen=True, kw_only=True):
    """`[rendering]`: how issues and their images are rendered."""

    images: Literal["embed", "publish"] = "embed"
    """Embedded in each message, or published in the archive under `public_url`."""
    raw_html: bool = False
    """Whether HTML in an issue is kept, within the allow-list, instead of shown as text."""


class Security(StrEnum):
    """How a relay's connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    PLAIN = "plain"


class Relay(Section, frozen=True, kw_only=True):
    """`[relays.NAME]`: an SMTP server to send through."""

    host: str
    port: Port = 587
    security: Security = Security.STARTTLS
    verify_certificate: bool = True
    user: str = ""
    password: Secret | None = None
    password_file: Path | None = None
    password_command: str | None = None
    connections: Annotated[int, Meta(ge=1, le=500)] = 10
    messages_per_connection: Annotated[int, Meta(ge=1)] = 500
    rate_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Messages a second over all connections to this relay; 0 means no limit."""
    weight: Annotated[int, Meta(ge=0)] = 1
    """Share of the messages; 0 makes it a fallback, used only while no other relay works."""

    def __post_init__(self) -> None:
        """Check the combination of keys; raise `ValueError`."""
        Section.__post_init__(self)
        if _sources(self) > 1:
            raise ValueError("give one of password, password_file and password_command")
        _refuse_plain(self)


class ProviderLimits(Section, frozen=True, kw_only=True):
    """`[providers.NAME]`: limits for the mailbox provider of these domains."""

    CHECKS: ClassVar[dict[str, Check]] = {"domains": checked_domains}

    domains: tuple[str, ...]
    connections: Annotated[int, Meta(ge=1)] = 5
    rate_per_second: Annotated[float, Meta(ge=0)] = 0.0
    messages_per_connection: Annotated[int, Meta(ge=1)] = 50


class DeliverySettings(Section, frozen=True, kw_only=True):
    """`[delivery]`: how runs send and retry."""

    uncertain: Literal["resend", "hold"] = "resend"
    window: Annotated[int, Meta(ge=1, le=10_000)] = 500
    """Deliveries a worker claims at once; the most that a crash can leave uncertain."""
    retry_base: timedelta = timedelta(minutes=5)
    retry_ceiling: timedelta = timedelta(hours=4)
    give_up_after: timedelta = timedelta(hours=48)
    wait_for_retries: bool = False
    """Whether `mailer send` waits until the last deferred delivery is settled."""


class Canary(Section, frozen=True, kw_only=True):
    """`[canary]`: who gets an issue first with `mailer send --canary`, and the limits that stop it."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "seeds": lambda seeds: tuple(checked_address(seed) for seed in seeds),
        "wait": at_least(timedelta(0)),
    }

    seeds: tuple[str, ...] = ()
    """Your own addresses, which get the issue first; they need not be subscribers."""
    wait: timedelta = timedelta(minutes=30)
    """How long to wait for reports before everyone else gets it."""
    max_bounced: Share = Share(0.02)
    """Share of attempted deliveries that failed or bounced."""
    max_deferred: Share = Share(0.2)
    """Share of attempted deliveries that were deferred."""
    max_complained: Share = Share(0.001)


class DkimKey(Section, frozen=True, kw_only=True):
    """`[[dkim]]`: a signing key (RFC 6376; Ed25519: RFC 8463)."""

    CHECKS: ClassVar[dict[str, Check]] = {"domain": checked_domain}

    domain: str
    selector: str
    key_file: Path


class Mailbox(Section, frozen=True, kw_only=True):
    """`[[bounces.boxes]]`: a mailbox that receives only reports."""

    kind: Literal["imap", "pop3"] = "imap"
    host: str
    port: Port | None = None
    """The standard port for kind and security by default."""
    security: Security = Security.TLS
    verify_certificate: bool = True
    user: str
    password: Secret | None = None
    password_file: Path | None = None
    password_command: str | None = None
    folder: str = "INBOX"
    """IMAP only."""

    def __post_init__(self) -> None:
        """Check the combination of keys; raise `ValueError`."""
        Section.__post_init__(self)
        if _sources(self) != 1:
            raise ValueError("give one of password, password_file and password_command")
        _refuse_plain(self)


def _sources(server: Relay | Mailbox) -> int:
    given = (server.password, server.password_file, server.password_command)
    return sum(source is not None for source in given)


def _refuse_plain(server: Relay | Mailbox) -> None:
    if server.security is Security.PLAIN and not is_loopback(server.host):
        raise ValueError(f"'plain' is for servers on this machine; {server.host} needs 'tls' or 'starttls'")


class Bounces(Section, frozen=True, kw_only=True):
    """`[bounces]`: where reports arrive, and their effects."""

    CHECKS: ClassVar[dict[str, Check]] = {"domain": checked_domain, "unsubscribe_address": checked_address}

    domain: str = ""
    """Domain of the envelope sender `b.TOKEN@…`; empty means the author's domain."""
    maildirs: tuple[Path, ...] = ()
    boxes: tuple[Mailbox, ...] = ()
    unsubscribe_address: str = ""
    """Local mailbox for `mailto:` in List-Unsubscribe; empty means `unsubscribe@` the bounce domain."""
    trust_unsigned: bool = False
    """Whether a report without our signature may affect the address it names; anyone can forge one."""
    soft_points: Annotated[float, Meta(gt=0)] = 5.0
    """Soft bounce points that are enough to give an address up, one a day at most ..."""
    soft_days: Annotated[int, Meta(ge=0)] = 14
    """... if they were gathered over so many days or more."""
    quiet_days: Annotated[int, Meta(ge=1)] = 30
    """After so many days without a soft bounce the count begins again."""
    alert_bounces_percent: Annotated[float, Meta(gt=0, le=100)] = 5.0
    """The operator is told when so much of an issue has come back or was refused ..."""
    alert_complaints_percent: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """... or was complained about."""


class Webhooks(Section, frozen=True, kw_only=True):
    """`[webhooks]`: how each provider proves itself. A provider without a value is refused."""

    ses_topics: tuple[str, ...] = ()
    """ARNs of the SNS topics that may report to `/hooks/ses`."""
    ses: Secret | None = None
    """`user:password` for raw deliveries of SNS and for EventBridge, which sign nothing."""
    sendgrid_public_key: str = ""
    """Verification key of the signed event webhook, base64."""
    mailgun_signing_key: Secret | None = None
    postmark: Secret | None = None
    """`user:password` of the basic authentication that is part of the webhook's URL."""
    sparkpost: Secret | None = None
    mailjet: Secret | None = None
    brevo: Secret | None = None
    """`user:password`, or a token without a colon."""
    scaleway: Secret | None = None
    resend_signing_secret: Secret | None = None
    """`whsec_…`"""
    mailersend_signing_secret: Secret | None = None
    mandrill_webhook_key: Secret | None = None
    """Mandrill also signs the address: enter `PUBLIC_URL/hooks/mandrill` there."""
    mailtrap_signing_key: Secret | None = None
    postal_public_key: str = ""
    """The `p=` of the DKIM record of the Postal server, base64."""


class Paths(Section, frozen=True, kw_only=True):
    """`[paths]`: relative to config.toml."""

    database: str = "sqlite:///subscribers.db"
    templates: Path = Path("email_templates")
    issues: Path = Path("issues")
    outbox: Path = Path("outbox")


class Settings(Section, frozen=True, kw_only=True):
    """All of config.toml and the environment, checked and frozen."""

    newsletter: Newsletter = Newsletter()
    brand: Brand = Brand()
    rendering: Rendering = Rendering()
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)
    providers: dict[str, ProviderLimits] = msgspec.field(default_factory=dict)
    delivery: DeliverySettings = DeliverySettings()
    canary: Canary = Canary()
    dkim: tuple[DkimKey, ...] = ()
    bounces: Bounces = Bounces()
    webhooks: Webhooks = Webhooks()
    web: Web = Web()
    signup: SignUp = SignUp()
    tracking: Tracking = Tracking()
    retention: Retention = Retention()
    segments: dict[str, str] = msgspec.field(default_factory=dict)
    imports: dict[str, ImportFile] = msgspec.field(default_factory=dict)
    paths: Paths = Paths()

    folder: Path = Path()
    """The folder of config.toml, from which relative paths count. Like `origins` no table of that file."""
    origins: dict[str, str] = msgspec.field(default_factory=dict)
    """Dotted key to where its value comes from."""

    def path(self, relative: Path) -> Path:
        """Return a configured path as seen from the folder of config.toml; `~` is the home folder."""
        return self.folder / expanded(relative)

    def origin(self, key: str) -> str:
        """Return where a dotted key's value comes from: `flag`, a variable, `file:line` or `default`."""
        return self.origins.get(key, "default")

    @property
    def bounce_domain(self) -> str:
        """The domain of the envelope sender."""
        return self.bounces.domain or self.newsletter.author_domain

    @property
    def unsubscribe_address(self) -> str:
        """The mailbox that takes unsubscribe requests by mail."""
        return self.bounces.unsubscribe_address or f"unsubscribe@{self.bounce_domain}"
