"""All tables, in one file, so that the schema can be read in one sitting.

Sized for 1,000,000 subscribers and 52 issues a year: see docs/how/database.md.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from mailer.database.columns import Identifier, Instant


class SubscriberStatus(StrEnum):
    """The status of a subscriber. Only `active` subscribers get issues."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


class DeliveryState(StrEnum):
    """The state of a delivery; the seven counts always add up to the audience."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"


class IssueState(StrEnum):
    """The state of an issue."""

    SENDING = "sending"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class CanaryState(StrEnum):
    """The state of a canary: the part of the audience that gets an issue first."""

    SEEDING = "seeding"
    """Sending to the operator's own addresses."""
    SENDING = "sending"
    WAITING = "waiting"
    """Waiting for reports."""
    PASSED = "passed"
    STOPPED = "stopped"
    """A limit was exceeded; the operator decides."""


class Base(DeclarativeBase):
    """The declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant(), dict[str, Any]: JSON()}  # noqa: RUF012


class Instance(Base):
    """Named values of this installation: its identity and its secrets."""

    __tablename__ = "instance"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Subscriber(Base):
    """A person on the list. `address` is kept as written; `address_key` is case-folded and unique."""

    __tablename__ = "subscribers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    address: Mapped[str] = mapped_column(String(320))
    address_key: Mapped[str] = mapped_column(String(320), unique=True)
    domain: Mapped[str] = mapped_column(String(255), index=True)
    name: Mapped[str] = mapped_column(String(255), default="", server_default="")
    status: Mapped[str] = mapped_column(String(16))
    attributes: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default=text("'{}'"))
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    paused_until: Mapped[datetime | None]
    """Gets no issues before this instant, at their own request."""
    tracking_consent: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    tracking_since: Mapped[datetime | None]
    """When they agreed to tracking; None if they did not, or before this was recorded."""
    soft_points: Mapped[float] = mapped_column(Float, default=0.0, server_default=text("0"))
    soft_since: Mapped[datetime | None]
    soft_last_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_subscribers_status_id", "status", "id"),)


class SubscriberTag(Base):
    """A tag of a subscriber."""

    __tablename__ = "subscriber_tags"
    __table_args__ = (
        Index("ix_subscriber_tags_tag_subscriber_id", "tag", "subscriber_id"),
        {"sqlite_with_rowid": False},
    )

    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class Consent(Base):
    """The consent ledger: one line for each change of a status. Lines are added, never changed."""

    __tablename__ = "consents"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), index=True
    )
    at: Mapped[datetime]
    before: Mapped[str] = mapped_column(String(16), default="", server_default="")
    after: Mapped[str] = mapped_column(String(16))
    way: Mapped[str] = mapped_column(String(32))
    """The cause: command, import, form, api, one-click, page, mailto, bounce, complaint, webhook."""
    ip: Mapped[str] = mapped_column(String(45), default="", server_default="")
    form: Mapped[str] = mapped_column(String(64), default="", server_default="")
    form_version: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The version of a `Wording`; empty if no form was involved."""
    note: Mapped[str] = mapped_column(Text, default="", server_default="")
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    import_id: Mapped[int | None] = mapped_column(Identifier, ForeignKey("imports.id"), index=True)


class Wording(Base):
    """The wording of a form that people agreed to; one row for each version."""

    __tablename__ = "wordings"

    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    first_at: Mapped[datetime]


class SignUpRequest(Base):
    """A pending sign-up request, stored before the form says "Check your inbox"."""

    __tablename__ = "sign_up_requests"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(320))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Name, attributes, tags, language and the origin of the request."""


class Import(Base):
    """An import of subscribers, kept so that it can be listed and reverted."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Text)
    added: Mapped[int] = mapped_column(default=0)
    updated: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    kept_out: Mapped[int] = mapped_column(default=0)
    """Not added, because they had opted out, complained, bounced or been erased."""
    opted_out: Mapped[int] = mapped_column(default=0)
    taken_off: Mapped[int] = mapped_column(default=0)
    left_alone: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    reverted_at: Mapped[datetime | None]


class Suppression(Base):
    """A reason never to send to an address, even if someone adds it again.

    `address_key` is the case-folded address, or `hmac:…` for an address that was erased.
    """

    __tablename__ = "suppressions"
    __table_args__ = ({"sqlite_with_rowid": False},)

    address_key: Mapped[str] = mapped_column(String(320), primary_key=True)
    reason: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime]
    note: Mapped[str] = mapped_column(Text, default="", server_default="")
    report_id: Mapped[int | None] = mapped_column(Identifier)


class ApiToken(Base):
    """An API token: its scopes and the SHA-256 of its secret."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(Text)
    """Separated by spaces."""
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    """When it was last used, to the hour."""
    revoked_at: Mapped[datetime | None]


class ConsoleUser(Base):
    """A person who may use the console."""

    __tablename__ = "console_users"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str] = mapped_column(Text)
    """An Argon2 hash, with its parameters."""
    totp_secret: Mapped[str] = mapped_column(String(64))
    totp_step: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """The time step of the last code that was accepted; no code is accepted twice (RFC 6238)."""
    created_at: Mapped[datetime]


class ConsoleSession(Base):
    """A login to the console, or a link that can be used for one login."""

    __tablename__ = "console_sessions"
    __table_args__ = ({"sqlite_with_rowid": False},)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the secret in the cookie or the link."""
    kind: Mapped[str] = mapped_column(String(8))
    """`link` or `session`."""
    user_id: Mapped[int | None] = mapped_column(
        Identifier, ForeignKey("console_users.id", ondelete="CASCADE"), index=True
    )
    """None for the person at this machine, who needs no user."""
    agent: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """SHA-256 of the browser's User-Agent."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class ConsolePasskey(Base):
    """A passkey of a console user: the public key of a WebAuthn credential."""

    __tablename__ = "console_passkeys"

    credential_id: Mapped[str] = mapped_column(String(1400), primary_key=True)
    """In base64url; an authenticator chooses up to 1023 octets."""
    user_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("console_users.id", ondelete="CASCADE"), index=True
    )
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    """How often the authenticator says it was used; a smaller number means a copy. Many always say 0."""
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class StoredProposal(Base):
    """An issue that waits until a second person approves that it is sent."""

    __tablename__ = "proposals"
    __table_args__ = ({"sqlite_with_rowid": False},)

    slug: Mapped[str] = mapped_column(String(255), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`send`, `schedule` or `amend`."""
    digest: Mapped[str] = mapped_column(String(64))
    """The digest of its edition; what is sent must be what was proposed."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    share: Mapped[float | None] = mapped_column(Float)
    """The share of the audience that gets it first; None without a canary."""
    due_at: Mapped[datetime | None]
    zone: Mapped[str] = mapped_column(String(64), default="", server_default="")
    who: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]


class AuditEntry(Base):
    """Something that a person did in the console. Entries are added, never changed."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(String(64))
    """The user's name; it stays when the user is removed."""
    act: Mapped[str] = mapped_column(String(64))
    about: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The issue, the subscriber's id or the file."""
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """What changed, as `before` and `after` where both exist."""


class ApiRequest(Base):
    """A request that was done under an idempotency key, with its answer."""

    __tablename__ = "api_requests"
    __table_args__ = ({"sqlite_with_rowid": False},)

    caller: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    """The id of the API token."""
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the request."""
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(index=True)


class WebhookEndpoint(Base):
    """Another program that is notified of events."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[str] = mapped_column(Text)
    """Signs every request, so it is stored as it is."""
    events: Mapped[str] = mapped_column(Text)
    """Types or patterns of types, separated by spaces."""
    private: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class WebhookEvent(Base):
    """An event for the endpoints, written in the transaction of the fact."""

    __tablename__ = "webhook_events"
    __table_args__ = ({"sqlite_with_rowid": False},)

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    type: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime] = mapped_column(index=True)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)


class WebhookDelivery(Base):
    """One event to one endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = ({"sqlite_with_rowid": False},)

    event_uid: Mapped[str] = mapped_column(String(32), ForeignKey("webhook_events.uid"), primary_key=True)
    endpoint_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("webhook_endpoints.id"), primary_key=True, index=True
    )
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    due_at: Mapped[datetime | None] = mapped_column(index=True)
    """When to try next; for a claimed delivery, when the claim expires."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    """The status of the last response."""
    said: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why the last attempt failed."""


class StoredEdition(Base):
    """A frozen rendering, stored under its SHA-256."""

    __tablename__ = "editions"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class StoredIssue(Base):
    """An issue that was queued."""

    __tablename__ = "issues"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    title: Mapped[str] = mapped_column(Text)
    source_path: Mapped[str] = mapped_column(Text)
    edition_digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))
    """Its newest edition; the others are in `replaced_editions`."""
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The reason it is paused or was cancelled."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    audience: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many deliveries were queued; counting them would read every row."""
    dated_at: Mapped[datetime]
    """The Date: of every message in the first attempt."""
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    """When the archive first showed it; None while it is not public."""
    canary: Mapped[str | None] = mapped_column(String(16))
    """None without a canary. Until the canary passes, only its members get the issue."""
    canary_until: Mapped[datetime | None]
    """The end of its wait for reports."""
    resend_of: Mapped[int | None] = mapped_column(Identifier)
    """The issue that it repeats for readers who did not react."""
    sequence_id: Mapped[int | None] = mapped_column(Identifier)
    """The sequence that it is a step of; its audience grows as people reach it."""


class ScheduledIssue(Base):
    """An issue that is queued at a set time. The row is deleted when that happens, or it is cancelled."""

    __tablename__ = "schedules"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    slug: Mapped[str] = mapped_column(String(200), unique=True)
    source_path: Mapped[str] = mapped_column(Text)
    edition: Mapped[str] = mapped_column(Text)
    """The edition as JSON, frozen when the issue was scheduled."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    due_at: Mapped[datetime]
    zone: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """The IANA time zone in which the operator wrote the time; empty for the machine's own."""
    created_at: Mapped[datetime]
    wall_time: Mapped[str] = mapped_column(String(32), default="", server_default=text("''"))
    """The time on the clock at which everyone gets it in their own zone (ISO 8601); empty for one instant.
    Then `due_at` is the instant of the next zone."""
    began_at: Mapped[datetime | None]
    """When its audience was fixed, if it is sent by local time and has begun."""
    missed_at: Mapped[datetime | None]
    """When a worker found that it was too late to send it automatically."""


class ReplacedEdition(Base):
    """An edition of an issue that `mailer amend` has replaced with the next one."""

    __tablename__ = "replaced_editions"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """1 for the edition that was queued first."""
    digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))
    replaced_at: Mapped[datetime]


class CanaryMember(Base):
    """A delivery that goes out before the others of its issue."""

    __tablename__ = "canary_members"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    arm: Mapped[int | None]
    """The arm of an A/B test: 0 is A. None without a test."""


class StoredTest(Base):
    """An A/B test of an issue. Its members are those of the canary."""

    __tablename__ = "ab_tests"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("issues.id"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(String(8))
    """Of the events that decide: `click` or `open`."""
    wait_seconds: Mapped[float] = mapped_column(Float)
    hold: Mapped[bool]
    """Whether a person decides."""
    winner: Mapped[int | None]
    """The arm that everyone else gets; None until it is decided."""
    decided_at: Mapped[datetime | None]
    said: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why that arm won, in words."""


class StoredArm(Base):
    """The edition of an arm of an A/B test."""

    __tablename__ = "arms"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    arm: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("editions.digest"))


class StoredSequence(Base):
    """A sequence of messages, as `mailer sequences apply` stored it."""

    __tablename__ = "sequences"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    trigger: Mapped[str] = mapped_column(String(200))
    """As in config.toml: `confirmed`, `tag:NAME`, `date:ATTRIBUTE` or `api`."""
    goal: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """A segment; its members get no further steps."""
    zone: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    created_at: Mapped[datetime]
    paused_at: Mapped[datetime | None]
    mark: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """How far the trigger was looked for: the last line of the ledger, or the last hour since 1970."""
    floor: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """The last line of the ledger when the trigger was set; people who confirmed before do not enter."""


class SequenceStep(Base):
    """A step of a sequence. Its messages are the deliveries of its issue."""

    __tablename__ = "sequence_steps"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    sequence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("sequences.id"), index=True)
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"))
    name: Mapped[str] = mapped_column(String(200))
    """The file name without its suffix."""
    position: Mapped[int]
    """From 0; removed steps keep theirs."""
    after_seconds: Mapped[int] = mapped_column(Identifier)
    """The time since the step before."""
    minute: Mapped[int | None]
    """The time of day, in minutes."""
    days: Mapped[str] = mapped_column(String(7), default="", server_default=text("''"))
    """The days of the week as digits, 0 for Monday; empty for any."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    removed_at: Mapped[datetime | None]


class SequenceMember(Base):
    """A person in a sequence. The row stays when they have finished, so nobody enters twice."""

    __tablename__ = "sequence_members"
    __table_args__ = (
        Index("ix_sequence_members_next_step_id_zone_due_at", "next_step_id", "zone", "due_at"),
        {"sqlite_with_rowid": False},
    )

    sequence_id: Mapped[int] = mapped_column(Identifier, ForeignKey("sequences.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    """No foreign key, as in `Delivery`."""
    entered_at: Mapped[datetime]
    since_at: Mapped[datetime]
    """When the step before was queued; at first, when they entered."""
    next_step_id: Mapped[int | None] = mapped_column(Identifier)
    """None once they have finished or left."""
    zone: Mapped[str] = mapped_column(String(64), default="", server_default=text("''"))
    """Their time zone; empty for that of the sequence."""
    due_at: Mapped[datetime | None]
    """The earliest time for the next step; its day and hour come on top."""
    ended_at: Mapped[datetime | None]
    why: Mapped[str] = mapped_column(String(16), default="", server_default=text("''"))
    """Why it ended: finished, left, goal, or before for those who had the tag already."""
    line: Mapped[int] = mapped_column(Identifier, default=0, server_default=text("0"))
    """Their last line in the ledger when they entered; later ones tell whether they left."""


class Feed(Base):
    """A feed that issues were made from."""

    __tablename__ = "feeds"
    __table_args__ = ({"sqlite_with_rowid": False},)

    url: Mapped[str] = mapped_column(String(2_000), primary_key=True)
    etag: Mapped[str] = mapped_column(String(1_000), default="", server_default=text("''"))
    modified: Mapped[str] = mapped_column(String(100), default="", server_default=text("''"))
    """The ETag and Last-Modified of the last response, for conditional requests."""


class FeedItem(Base):
    """An item of a feed that was used, or passed over: it is never used again."""

    __tablename__ = "feed_items"
    __table_args__ = ({"sqlite_with_rowid": False},)

    url: Mapped[str] = mapped_column(String(2_000), ForeignKey("feeds.url"), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The SHA-256 of its id, its address or its text; an item has a row for each."""
    at: Mapped[datetime]


WAITS = "state IN ('deferred', 'uncertain')"
"""The condition of the partial index of deliveries. A statement must repeat this exact text to use the
index: the database cannot know that a bound value would match it."""


class Delivery(Base):
    """One issue to one subscriber.

    Queued rows are claimed along the primary key, so they need no index. The few that wait for another
    attempt have a partial index, and so do those that failed. The migration creates the same partial
    indexes on PostgreSQL; declaring them here would load its dialect on SQLite too.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("attempts >= 0", name="attempts"),
        Index(
            "ix_deliveries_open",
            "issue_id",
            "state",
            "due_at",
            sqlite_where=text(WAITS),
        ),
        Index(
            "ix_deliveries_failed",
            "issue_id",
            "bounce_class",
            sqlite_where=text("state = 'failed'"),
        ),
        Index("ix_deliveries_subscriber_id", "subscriber_id"),
        {"sqlite_with_rowid": False},
    )

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    """No foreign key: the books of an issue outlive an erased subscriber."""
    state: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    run_id: Mapped[int | None] = mapped_column(Identifier)
    due_at: Mapped[datetime | None]
    first_at: Mapped[datetime | None]
    """When the first attempt began; giving up counts from here."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    enhanced: Mapped[str | None] = mapped_column(String(16))
    reply: Mapped[str | None] = mapped_column(Text)
    bounce_class: Mapped[str | None] = mapped_column(String(32))


class WaitingLetter(Base):
    """An unsettled letter to one subscriber. The row is deleted once it is sent, failed or
    skipped; its event keeps the result.
    """

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str] = mapped_column(String(16))
    """confirmation, welcome, goodbye or message."""
    source: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """The text of a message, written as an issue is; empty for the other kinds."""
    language: Mapped[str] = mapped_column(String(35), default="", server_default=text("''"))
    """The language of the person's browser (BCP 47); empty for the newsletter's."""
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(index=True)
    """When the next attempt is due; for a letter being sent, when its claim expires."""
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    state: Mapped[str] = mapped_column(String(16), default="queued", server_default=text("'queued'"))
    """A `DeliveryState`: queued, sending, deferred or uncertain."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    enhanced: Mapped[str | None] = mapped_column(String(16))
    reply: Mapped[str | None] = mapped_column(Text)
    bounce_class: Mapped[str | None] = mapped_column(String(32))


class Run(Base):
    """A sending process. A `sending` delivery names the run that claimed it."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), index=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    edition: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    """The number of the edition that it sends; 1 unless the issue was amended."""
    place: Mapped[str] = mapped_column(String(128), default="", server_default=text("''"))
    """Distinguishes systems with the same host name; see `mailer.delivery.runs.place`."""
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    """When it last committed, by the database's clock. PostgreSQL only."""
    commits: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many transactions of the run were committed. PostgreSQL only."""
    reason: Mapped[str] = mapped_column(Text, default="", server_default=text("''"))
    """Why it ended while something was left to send, such as a relay that cannot be reached."""


class Worker(Base):
    """A `mailer worker` that is running. The row is deleted when it ends, or when another finds it dead."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    """The operator's name for it; the machine's by default."""
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    place: Mapped[str] = mapped_column(String(128), default="", server_default=text("''"))
    """As in `Run`."""
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    """When it last reached the database, by the database's clock."""


class SharedLimit(Base):
    """What all runs know of the limits of a relay, a provider or a domain. Times are in seconds on one
    clock; see `mailer.delivery.sharing`."""

    __tablename__ = "limits"
    __table_args__ = ({"sqlite_with_rowid": False},)

    name: Mapped[str] = mapped_column(String(300), primary_key=True)
    free_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """From when on no instants for messages are reserved."""
    not_before: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """When a reply allowed the next message."""
    slowed_at: Mapped[float] = mapped_column(Float, server_default=text("0"))
    share: Mapped[float] = mapped_column(Float, server_default=text("1"))
    """The fraction of the usual rate that was left then."""
    usual_per_second: Mapped[float] = mapped_column(Float, server_default=text("0"))
    """The rate before that, if none is configured."""


class Seat(Base):
    """The connections of one run under one limit, until it asks again."""

    __tablename__ = "seats"
    __table_args__ = ({"sqlite_with_rowid": False},)

    limit_name: Mapped[str] = mapped_column(String(300), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64), primary_key=True)
    connections: Mapped[int]
    wanted: Mapped[int]
    until: Mapped[float] = mapped_column(Float)


class StoredReport(Base):
    """An email or webhook about a delivery, kept unchanged so that newer rules can classify it again."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    received_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Text)
    """The source: `maildir:PATH`, `imap:NAME`, `lmtp`, `pipe`, `webhook:PROVIDER`."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the raw octets, which makes duplicates one report."""
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    kind: Mapped[str] = mapped_column(String(24))
    outcome: Mapped[str] = mapped_column(String(24), index=True)
    """applied, ignored, unmatched or foreign."""
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    recipient: Mapped[str] = mapped_column(String(320), default="", server_default="")
    bounce_class: Mapped[str | None] = mapped_column(String(32))
    hard: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Event(Base):
    """An event that no other table records, such as an open, a click or an alert."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class LedgerDay(Base):
    """How many people changed from one status to another on a day; counted from the ledger."""

    __tablename__ = "ledger_days"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Days since 1970 in UTC."""
    before: Mapped[str] = mapped_column(String(16), primary_key=True)
    after: Mapped[str] = mapped_column(String(16), primary_key=True)
    way: Mapped[str] = mapped_column(String(32), primary_key=True)
    people: Mapped[int]


class CohortCount(Base):
    """How many people joined in one month and left in another; counted from the ledger."""

    __tablename__ = "cohorts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    joined_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Such as 2026-03, in UTC."""
    left_month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """Empty for those who are still active."""
    people: Mapped[int]


class IssueCount(Base):
    """A number about an issue, counted from deliveries, events, reports and the ledger.

    `mailer.reports.counting` lists the facets and measures. Issue 0 holds numbers about the whole list.
    """

    __tablename__ = "issue_counts"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    facet: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    measure: Mapped[str] = mapped_column(String(16), primary_key=True)
    number: Mapped[int]


ALERT: Final = "alert"
"""The kind of an event that warns the operator; its details contain the `text`."""
