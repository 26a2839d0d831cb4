"""The tables of config.toml and their keys. Their docstrings become the configuration reference."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from mailer.config.automatic import Digest, Sequence
from mailer.config.console import Console
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
from mailer.config.warmup import Warmup


class Newsletter(Section, frozen=True, kw_only=True):
    """`[newsletter]`: the newsletter and its author."""

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
    """The name in emails and on the pages."""
    description: str = ""
    """One or two sentences for new readers, shown on the home page and in feeds."""
    frequency: str = ""
    """How often it appears, in your words (`every Friday`); shown on the home page."""
    author_name: str = ""
    """The name in From:. If empty, the newsletter's name."""
    author_address: str = "newsletter@example.org"
    """The address in From:."""
    reply_to: str = ""
    """The address in Reply-To:. If empty, there is no such header."""
    list_id: str = ""
    """`label.namespace` (RFC 2919). If empty, it is derived from the name and the author's domain.
    Readers' filters depend on it, so never change it."""
    postal_address: str = ""
    """Shown in every footer. Without it, `mailer send` refuses to use a public relay (CAN-SPAM)."""
    language: Language = "en"
    """The language of the issues (BCP 47), and of the pages unless a reader's browser asks for another."""
    words_per_minute: Annotated[int, Meta(ge=50, le=1000)] = 250
    """How fast people read, for `{{ reading_time }}`."""
    exact_reading_time: bool = False
    """Whether `{{ reading_time }}` has seconds, as in "4 minutes, 18 seconds", or whole minutes only."""

    @property
    def author_domain(self) -> str:
        """The domain of From:, which DKIM and DMARC align with."""
        return self.author_address.rpartition("@")[2]


class Brand(Section, frozen=True, kw_only=True):
    """`[brand]`: the design of emails and pages. Colours are adjusted where their contrast is too low."""

    CHECKS: ClassVar[dict[str, Check]] = {"logo_alt": checked_header_text}

    accent: Colour = "#0b6e4f"
    """The colour of links and buttons."""
    text: Colour = "#1f2328"
    """The colour of text."""
    background: Colour = "#f6f5f1"
    """The colour around the content."""
    surface: Colour = "#ffffff"
    """The colour behind the content."""
    font: str = "Georgia, 'Times New Roman', serif"
    """The font of text, as in CSS."""
    heading_font: str = "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
    """The font of headings, as in CSS."""
    logo_url: str = ""
    """The image above each issue."""
    logo_alt: str = ""
    """The logo's alternative text."""
    social: dict[str, WebUrl] = msgspec.field(default_factory=dict)
    """Label and address of each link in the footer. They are text, never icons loaded from elsewhere."""


class Rendering(Section, frozen=True, kw_only=True):
    """`[rendering]`: how issues and their images are rendered."""

    images: Literal["embed", "publish"] = "embed"
    """`"embed"` puts images into each message; `"publish"` lets readers load them from `web.public_url`."""
    raw_html: bool = False
    """Whether HTML in issues is kept, within the allow-list, or shown as text."""


class Security(StrEnum):
    """How a relay's connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    PLAIN = "plain"


class Relay(Section, frozen=True, kw_only=True):
    """`[relays.NAME]`: an SMTP server that takes your messages.

    Without one, messages go to the outbox on this machine.
    """

    host: str
    """The server's name or address."""
    port: Port = 587
    """Usually 587, or 465 for `"tls"`."""
    security: Security = Security.STARTTLS
    """`"starttls"`, `"tls"`, or `"plain"` for servers on this machine only."""
    verify_certificate: bool = True
    """Whether the certificate must be valid."""
    user: str = ""
    """The user name, if the server wants one."""
    password: Secret | None = None
    """Better in the environment than in this file. Give only one of the three."""
    password_file: Path | None = None
    """A file that contains the password."""
    password_command: str | None = None
    """A command that prints the password."""
    connections: Annotated[int, Meta(ge=1, le=500)] = 10
    """The most simultaneous connections."""
    messages_per_connection: Annotated[int, Meta(ge=1)] = 500
    """A connection is replaced after this many messages."""
    rate_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Messages per second over all connections to this relay; 0 means no limit."""
    weight: Annotated[int, Meta(ge=0)] = 1
    """Its share of the messages; 0 makes it a fallback, used only when no other relay works."""
    machines: tuple[str, ...] = ()
    """The only machines that may use it, by host name or by the name given to `mailer worker --name`."""
    warmup: Warmup | None = None
    """Few messages at first, more every day; see below."""

    def __post_init__(self) -> None:
        """Check the combination of keys; raise `ValueError`."""
        Section.__post_init__(self)
        if _sources(self) > 1:
            raise ValueError("give one of password, password_file and password_command")
        _refuse_plain(self)


class ProviderLimits(Section, frozen=True, kw_only=True):
    """`[providers.NAME]`: limits for the mailbox provider of some domains, over all relays."""

    CHECKS: ClassVar[dict[str, Check]] = {"domains": checked_domains}

    domains: tuple[str, ...]
    """The domains whose mailboxes it runs."""
    connections: Annotated[int, Meta(ge=1)] = 5
    """The most simultaneous connections with messages to them."""
    rate_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """Messages per second; 0 means no limit."""
    messages_per_connection: Annotated[int, Meta(ge=1)] = 50
    """The most messages to them over one connection."""


class DeliverySettings(Section, frozen=True, kw_only=True):
    """`[delivery]`: how runs send and retry."""

    CHECKS: ClassVar[dict[str, Check]] = {
        "database_patience": at_least(timedelta(0)),
        "undo": at_least(timedelta(0)),
    }

    uncertain: Literal["resend", "hold"] = "resend"
    """What happens to uncertain deliveries after a crash: `"resend"` sends them again with the same
    Message-ID, `"hold"` waits for `mailer retry`."""
    window: Annotated[int, Meta(ge=1, le=10_000)] = 500
    """Deliveries that a run claims at a time; a crash leaves at most this many uncertain. If the database is
    milliseconds away, a larger window sends faster."""
    retry_base: timedelta = timedelta(minutes=5)
    """The wait before the first retry."""
    retry_ceiling: timedelta = timedelta(hours=4)
    """The longest wait between attempts."""
    give_up_after: timedelta = timedelta(hours=48)
    """When to give up, counted from the first attempt."""
    wait_for_retries: bool = False
    """Whether `mailer send` keeps running until every delivery is settled."""
    undo: timedelta = timedelta(0)
    """How long `mailer send` and the console wait before an issue is queued; until then it can be undone."""
    turns: Annotated[int, Meta(ge=0)] = 0
    """How many workers send one issue at the same time; 0 means all. PostgreSQL only."""
    database_patience: timedelta = timedelta(minutes=5)
    """How long a run waits for a PostgreSQL server that is away before it ends."""


class Canary(Section, frozen=True, kw_only=True):
    """`[canary]`: who gets an issue first with `mailer send --canary`, and the limits that stop it.

    The limits are shares of the attempted deliveries. A single bounce or complaint never stops an issue.
    """

    CHECKS: ClassVar[dict[str, Check]] = {
        "seeds": lambda seeds: tuple(checked_address(seed) for seed in seeds),
        "wait": at_least(timedelta(0)),
    }

    seeds: tuple[str, ...] = ()
    """Your own addresses, which get the issue before everyone else. They need not be subscribers."""
    wait: timedelta = timedelta(minutes=30)
    """How long to wait for bounces and complaints before everyone else gets it."""
    max_bounced: Share = Share(0.02)
    """Deliveries that failed or bounced."""
    max_deferred: Share = Share(0.2)
    """Deliveries that were deferred."""
    max_complained: Share = Share(0.001)
    """Deliveries that led to a complaint."""


class DkimKey(Section, frozen=True, kw_only=True):
    """`[[dkim]]`: a signing key.

    `mailer dkim keygen` creates it, and prints these lines and the DNS record.
    """

    CHECKS: ClassVar[dict[str, Check]] = {"domain": checked_domain}

    domain: str
    """The signing domain: the author's, or one above it."""
    selector: str
    """The name of the DNS record, below `_domainkey`."""
    key_file: Path
    """The private key: RSA of 2048 bits or more (RFC 6376), or Ed25519 (RFC 8463)."""


class Mailbox(Section, frozen=True, kw_only=True):
    """`[[bounces.boxes]]`: a mailbox that receives only reports."""

    kind: Literal["imap", "pop3"] = "imap"
    """`"imap"`, or `"pop3"`, which deletes messages once they are stored."""
    host: str
    """The server's name or address."""
    port: Port | None = None
    """If not set, the usual port for `kind` and `security`."""
    security: Security = Security.TLS
    """`"tls"`, `"starttls"`, or `"plain"` for servers on this machine only."""
    verify_certificate: bool = True
    """Whether the certificate must be valid."""
    user: str
    """The user name."""
    password: Secret | None = None
    """Better in the environment than in this file. Give exactly one of the three."""
    password_file: Path | None = None
    """A file that contains the password."""
    password_command: str | None = None
    """A command that prints the password."""
    folder: str = "INBOX"
    """The folder to read (IMAP only)."""

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
    """`[bounces]`: where bounces and complaints arrive, and how mailer acts on them."""

    CHECKS: ClassVar[dict[str, Check]] = {"domain": checked_domain, "unsubscribe_address": checked_address}

    domain: str = ""
    """The domain of the envelope senders `b.TOKEN@…`. If empty, the author's domain."""
    maildirs: tuple[Path, ...] = ()
    """Maildir folders that `mailer bounces fetch` reads."""
    boxes: tuple[Mailbox, ...] = ()
    """Mailboxes on servers; see below."""
    unsubscribe_address: str = ""
    """The address for `mailto:` in List-Unsubscribe. If empty, `unsubscribe@` the bounce domain."""
    trust_unsigned: bool = False
    """Whether to act on reports without our signature. Anyone can forge one."""
    soft_points: Annotated[float, Meta(gt=0)] = 5.0
    """An address with this many soft bounce points, at most one a day, is suppressed …"""
    soft_days: Annotated[int, Meta(ge=0)] = 14
    """… if it collected them over at least this many days."""
    quiet_days: Annotated[int, Meta(ge=1)] = 30
    """After this many days without a soft bounce, the count starts again."""
    alert_bounces_percent: Annotated[float, Meta(gt=0, le=100)] = 5.0
    """The percentage of bounces in an issue that raises an alert."""
    alert_complaints_percent: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """The percentage of complaints that raises an alert."""


class Webhooks(Section, frozen=True, kw_only=True):
    """`[webhooks]`: how each provider proves that a webhook comes from it.

    Providers report to `<public_url>/hooks/NAME`. Without a value here, that address returns 404.
    """

    ses_topics: tuple[str, ...] = ()
    """ARNs of the SNS topics that may report to `/hooks/ses`. The signing certificate must come from the
    topic's region."""
    ses: Secret | None = None
    """`user:password`, for raw SNS messages and EventBridge, which are not signed."""
    sendgrid_public_key: str = ""
    """The verification key of the signed event webhook, base64."""
    mailgun_signing_key: Secret | None = None
    """The HTTP webhook signing key."""
    postmark: Secret | None = None
    """`user:password`, as in the address that you enter at the provider."""
    sparkpost: Secret | None = None
    """`user:password`, as in the address that you enter at the provider."""
    mailjet: Secret | None = None
    """`user:password`, as in the address that you enter at the provider."""
    brevo: Secret | None = None
    """`user:password`, or a token without a colon."""
    scaleway: Secret | None = None
    """`user:password`, as in the address that you enter at the provider."""
    resend_signing_secret: Secret | None = None
    """`whsec_…`."""
    mailersend_signing_secret: Secret | None = None
    """The webhook's signing secret."""
    mandrill_webhook_key: Secret | None = None
    """The webhook's key. Mandrill also signs the address: enter exactly `<public_url>/hooks/mandrill`
    there."""
    mailtrap_signing_key: Secret | None = None
    """The webhook's signing key."""
    postal_public_key: str = ""
    """The `p=` of the server's DKIM record, base64."""


class Paths(Section, frozen=True, kw_only=True):
    """`[paths]`: where things are. Relative paths start at the folder of `config.toml`."""

    database: str = "sqlite:///subscribers.db"
    """A SQLite file, or `postgresql+psycopg://…`."""
    templates: Path = Path("email_templates")
    """The templates, with `texts/` for other words and languages and `pages/` for pages of your own."""
    issues: Path = Path("issues")
    """The Markdown files of your issues."""
    outbox: Path = Path("outbox")
    """The folder for messages while there is no relay."""


class Settings(Section, frozen=True, kw_only=True):
    """All of config.toml and the environment, checked and frozen."""

    newsletter: Newsletter = Newsletter()
    brand: Brand = Brand()
    rendering: Rendering = Rendering()
    relays: dict[str, Relay] = msgspec.field(default_factory=dict)
    providers: dict[str, ProviderLimits] = msgspec.field(default_factory=dict)
    delivery: DeliverySettings = DeliverySettings()
    canary: Canary = Canary()
    sequences: dict[str, Sequence] = msgspec.field(default_factory=dict)
    digests: dict[str, Digest] = msgspec.field(default_factory=dict)
    dkim: tuple[DkimKey, ...] = ()
    bounces: Bounces = Bounces()
    webhooks: Webhooks = Webhooks()
    web: Web = Web()
    console: Console = Console()
    signup: SignUp = SignUp()
    tracking: Tracking = Tracking()
    retention: Retention = Retention()
    segments: dict[str, str] = msgspec.field(default_factory=dict)
    """`[segments]`: names for parts of the audience, used as `@name`: `locals = 'country = "RO"'`."""
    imports: dict[str, ImportFile] = msgspec.field(default_factory=dict)
    paths: Paths = Paths()

    folder: Path = Path()
    """The folder of config.toml. It is not a key of that file, nor is `origins`."""
    origins: dict[str, str] = msgspec.field(default_factory=dict)
    """The source of each value, by dotted key."""

    def path(self, relative: Path) -> Path:
        """Return a configured path as seen from the folder of config.toml; `~` is the home folder."""
        return self.folder / expanded(relative)

    def origin(self, key: str) -> str:
        """Return where a dotted key's value comes from: `flag`, a variable, `file:line` or `default`."""
        return self.origins.get(key, "default")

    @property
    def provider_of_domain(self) -> dict[str, str]:
        """The name of the provider of each domain in `[providers]`."""
        return {domain: name for name, limits in self.providers.items() for domain in limits.domains}

    @property
    def bounce_domain(self) -> str:
        """The domain of the envelope sender."""
        return self.bounces.domain or self.newsletter.author_domain

    @property
    def unsubscribe_address(self) -> str:
        """The mailbox that takes unsubscribe requests by mail."""
        return self.bounces.unsubscribe_address or f"unsubscribe@{self.bounce_domain}"
