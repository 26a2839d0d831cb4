"""The tables of config.toml and what each key means."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from mailer.address import check_header_text, parse_address, parse_domain


def _address(text: str) -> str:
    return str(parse_address(text)) if text else text


def _domain(text: str) -> str:
    return parse_domain(text) if text else text


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _header_text(text: str) -> str:
    return check_header_text(text, field="value")


_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")


def parse_share(value: object) -> object:
    """Return the number from 0 to 1 that a text like `2%` means; anything else as it is."""
    if not isinstance(value, str):
        return value
    found = _SHARE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"'{value}' is no share; write it like '2%' or '0.5%'")
    return float(found[1]) / 100


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]
AddressText = Annotated[str, AfterValidator(_address)]
TagText = Annotated[str, AfterValidator(_header_text), Field(pattern=r"^\S(.*\S)?$", max_length=64)]
ReasonText = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Label = Annotated[str, AfterValidator(_header_text), Field(min_length=1, max_length=120)]
DomainText = Annotated[str, AfterValidator(_domain)]
HeaderText = Annotated[str, AfterValidator(_header_text)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")]


class Section(BaseModel):
    """A table of config.toml: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Newsletter(Section):
    """`[newsletter]`: who writes, and what every message says of itself."""

    name: HeaderText = "My newsletter"
    author_name: HeaderText = ""
    """Display name of From:; empty means the newsletter's name."""
    author_address: AddressText = "newsletter@example.org"
    reply_to: AddressText = ""
    """Reply-To:; empty leaves the header out."""
    list_id: DomainText = ""
    """`label.namespace` of RFC 2919; empty derives it from name and author's domain."""
    postal_address: str = ""
    """Shown in every footer; a public relay is refused while it is empty (CAN-SPAM)."""
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "en"
    words_per_minute: Annotated[int, Field(ge=50, le=1000)] = 250

    @property
    def author_domain(self) -> str:
        """The domain of From:, which DKIM and DMARC align with."""
        return self.author_address.rpartition("@")[2]


class Brand(Section):
    """`[brand]`: the look of mail and pages."""

    accent: Colour = "#0b6e4f"
    text: Colour = "#1f2328"
    background: Colour = "#f6f5f1"
    surface: Colour = "#ffffff"
    font: str = "Georgia, 'Times New Roman', serif"
    heading_font: str = "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
    logo_url: str = ""
    logo_alt: HeaderText = ""
    social: dict[str, HttpUrl] = Field(default_factory=dict)
    """Label to URL; shown as text links, never as hot-linked icons."""


class Rendering(Section):
    """`[rendering]`: what an issue may hold, and how its images reach the reader."""

    images: Literal["embed", "publish"] = "embed"
    """Carried inside each message, or fetched by readers from the archive under `public_url`."""
    raw_html: bool = False
    """Whether HTML in an issue is kept, as far as the allow-list goes, instead of shown as text."""


class Security(StrEnum):
    """How a relay's connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    PLAIN = "plain"


class Relay(Section):
    """`[relays.NAME]`: an SMTP server that takes our mail."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Security = Security.STARTTLS
    verify_certificate: bool = True
    user: str = ""
    password: SecretStr | None = None
    password_file: Path | None = None
    password_command: str | None = None
    connections: Annotated[int, Field(ge=1, le=500)] = 10
    messages_per_connection: Annotated[int, Field(ge=1)] = 500
    rate_per_second: Annotated[float, Field(ge=0)] = 0.0
    """Messages a second over all connections of this relay; 0 is no limit."""
    weight: Annotated[int, Field(ge=0)] = 1
    """Share of the mail; 0 makes a relay a fallback, used while no other can be."""

    @model_validator(mode="after")
    def _check(self) -> Relay:
        if (
            sum(source is not None for source in (self.password, self.password_file, self.password_command))
            > 1
        ):
            raise ValueError("give one of password, password_file and password_command")
        if self.security is Security.PLAIN and not is_loopback(self.host):
            raise ValueError(f"'plain' is for servers on this machine; {self.host} needs 'tls' or 'starttls'")
        return self


class Provider(Section):
    """`[providers.NAME]`: limits towards the mailbox providers that serve these domains."""

    domains: tuple[DomainText, ...]
    connections: Annotated[int, Field(ge=1)] = 5
    rate_per_second: Annotated[float, Field(ge=0)] = 0.0
    messages_per_connection: Annotated[int, Field(ge=1)] = 50


class Delivery(Section):
    """`[delivery]`: the run."""

    uncertain: Literal["resend", "hold"] = "resend"
    window: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Deliveries a worker claims at once; the most that a crash can leave uncertain."""
    retry_base: timedelta = timedelta(minutes=5)
    retry_ceiling: timedelta = timedelta(hours=4)
    give_up_after: timedelta = timedelta(hours=48)
    wait_for_retries: bool = False
    """Whether `mailer send` stays until the last deferred delivery is settled."""


class Canary(Section):
    """`[canary]`: who gets an issue first with `mailer send --canary`, and what keeps it from the others."""

    seeds: tuple[AddressText, ...] = ()
    """Your own addresses, before all others; they need not be subscribers."""
    wait: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(minutes=30)
    """How long reports may come back before the others get it."""
    max_bounced: Share = 0.02
    """Share of those tried whose mail failed or came back."""
    max_deferred: Share = 0.2
    """Share of those tried who were refused for now."""
    max_complained: Share = 0.001


class DkimKey(Section):
    """`[[dkim]]`: a signing key (RFC 6376; Ed25519: RFC 8463)."""

    domain: DomainText
    selector: str
    key_file: Path


class Mailbox(Section):
    """`[[bounces.boxes]]`: a mailbox on a server that takes reports, and nothing else."""

    kind: Literal["imap", "pop3"] = "imap"
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The usual one for kind and security if it is not given."""
    security: Security = Security.TLS
    verify_certificate: bool = True
    user: str
    password: SecretStr | None = None
    password_file: Path | None = None
    password_command: str | None = None
    folder: str = "INBOX"
    """IMAP only."""

    @model_validator(mode="after")
    def _check(self) -> Mailbox:
        if (
            sum(source is not None for source in (self.password, self.password_file, self.password_command))
            != 1
        ):
            raise ValueError("give one of password, password_file and password_command")
        if self.security is Security.PLAIN and not is_loopback(self.host):
            raise ValueError(f"'plain' is for servers on this machine; {self.host} needs 'tls' or 'starttls'")
        return self


class Bounces(Section):
    """`[bounces]`: where reports come back, and what they do."""

    domain: DomainText = ""
    """Domain of the envelope sender `b.TOKEN@…`; empty means the author's domain."""
    maildirs: tuple[Path, ...] = ()
    boxes: tuple[Mailbox, ...] = ()
    unsubscribe_address: AddressText = ""
    """Local mailbox for `mailto:` in List-Unsubscribe; empty means `unsubscribe@` the bounce domain."""
    trust_unsigned: bool = False
    """Whether a report without our signature may act on the address it names; anybody can forge one."""
    soft_points: Annotated[float, Field(gt=0)] = 5.0
    """Soft bounce points that are enough to give an address up, one a day at most ..."""
    soft_days: Annotated[int, Field(ge=0)] = 14
    """... if they were gathered over so many days or more."""
    quiet_days: Annotated[int, Field(ge=1)] = 30
    """After so many days without a soft bounce the count begins again."""
    alert_bounces_percent: Annotated[float, Field(gt=0, le=100)] = 5.0
    """The operator is told when so much of an issue has come back or was refused ..."""
    alert_complaints_percent: Annotated[float, Field(gt=0, le=100)] = 0.1
    """... or was complained about."""


class Webhooks(Section):
    """`[webhooks]`: what each provider proves itself with; one without a value is not listened to."""

    ses_topics: tuple[str, ...] = ()
    """ARNs of the SNS topics that may report to `/hooks/ses`."""
    sendgrid_public_key: str = ""
    """Verification key of the signed event webhook, base64."""
    mailgun_signing_key: SecretStr | None = None
    postmark: SecretStr | None = None
    """`user:password` of the basic authentication that is part of the webhook's URL."""
    sparkpost: SecretStr | None = None
    mailjet: SecretStr | None = None


class Web(Section):
    """`[web]`: the public pages."""

    public_url: HttpUrl = "http://127.0.0.1:8600"
    """The address that readers reach; links in messages begin with it. https except on loopback."""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8600
    welcome: bool = True
    """Whether who has confirmed gets the letter of `email_templates/letters/welcome.md`."""
    goodbye: bool = False
    """Whether who left by a page of ours gets `goodbye.md`; a mail program's one click never brings it."""
    index: bool = True
    """Whether search engines may list the archive; token pages are never listed."""
    tags: Annotated[dict[TagText, Label], Field(max_length=50)] = Field(default_factory=dict)
    """Tags that subscribers tick and untick on their page, and what each is called there."""
    reasons: Annotated[dict[ReasonText, Label], Field(max_length=12)] = Field(default_factory=dict)
    """Why people leave: the word that is counted, and how the page says it; empty means our own four."""


class Tracking(Section):
    """`[tracking]`: off unless asked for; a person is noted only with their own consent."""

    opens: bool = False
    clicks: bool = False


class Retention(Section):
    """`[retention]`: how long personal records are kept; the books and the ledger's lines stay."""

    events: Annotated[timedelta, Field(ge=timedelta(days=1))] = timedelta(days=400)
    """Opens, clicks, soft bounces."""
    reports: Annotated[timedelta, Field(ge=timedelta(days=1))] = timedelta(days=180)
    """Raw bounces and complaints; what they were found to say stays."""
    replies: Annotated[timedelta, Field(ge=timedelta(days=1))] = timedelta(days=180)
    """What servers answered, counted from the end of the issue."""
    evidence: Annotated[timedelta, Field(ge=timedelta(days=1))] = timedelta(days=1095)
    """IP address, form and note of a consent, counted from when the person left."""


class Paths(Section):
    """`[paths]`: relative to config.toml."""

    database: str = "sqlite:///subscribers.db"
    templates: Path = Path("email_templates")
    issues: Path = Path("issues")
    outbox: Path = Path("outbox")


class Settings(Section):
    """All of config.toml and the environment, checked and frozen."""

    newsletter: Newsletter = Newsletter()
    brand: Brand = Brand()
    rendering: Rendering = Rendering()
    relays: dict[str, Relay] = Field(default_factory=dict)
    providers: dict[str, Provider] = Field(default_factory=dict)
    delivery: Delivery = Delivery()
    canary: Canary = Canary()
    dkim: tuple[DkimKey, ...] = ()
    bounces: Bounces = Bounces()
    webhooks: Webhooks = Webhooks()
    web: Web = Web()
    tracking: Tracking = Tracking()
    retention: Retention = Retention()
    segments: dict[str, str] = Field(default_factory=dict)
    paths: Paths = Paths()

    _folder: Path = PrivateAttr(default=Path())
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of config.toml, from which relative paths count."""
        return self._folder

    def path(self, relative: Path) -> Path:
        """Return a configured path as seen from the folder of config.toml."""
        return self._folder / relative

    def origin(self, key: str) -> str:
        """Return where a dotted key's value comes from: `flag`, a variable, `file:line` or `default`."""
        return self._origins.get(key, "default")

    @property
    def bounce_domain(self) -> str:
        """The domain of the envelope sender."""
        return self.bounces.domain or self.newsletter.author_domain

    @property
    def unsubscribe_address(self) -> str:
        """The mailbox that takes unsubscribe requests by mail."""
        return self.bounces.unsubscribe_address or f"unsubscribe@{self.bounce_domain}"
