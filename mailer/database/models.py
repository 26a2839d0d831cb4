"""Every table, in this one file: who reads the schema reads all of it.

Sized for 1,000,000 subscribers and 52 issues a year: see docs/how/database.md.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite gives only INTEGER primary keys the row id; PostgreSQL wants 64 bits.
Identifier = BigInteger().with_variant(Integer(), "sqlite")


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as microseconds since 1970 in a 64-bit integer.

    Six octets a value instead of SQLite's 26 characters, ordered alike on every database.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Return the stored integer. A naive datetime is a bug and raises `ValueError`."""
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Return the instant in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_microseconds(at: datetime) -> int:
    """Return an instant as it is stored; a naive datetime raises `ValueError`."""
    if at.tzinfo is None:
        raise ValueError("datetimes are aware")
    delta = at - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


class SubscriberStatus(StrEnum):
    """Where a subscriber stands. Only `active` is mailed issues."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


class DeliveryState(StrEnum):
    """Where a delivery stands; the seven add up to the audience at every moment."""

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    DEFERRED = "deferred"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    SKIPPED = "skipped"


class IssueState(StrEnum):
    """Where an issue stands."""

    SENDING = "sending"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class CanaryState(StrEnum):
    """How far the first part of an issue has come that goes out before the others."""

    SEEDING = "seeding"
    """The operator's own addresses come first."""
    SENDING = "sending"
    WAITING = "waiting"
    """For reports to come back."""
    PASSED = "passed"
    STOPPED = "stopped"
    """A limit was broken: the operator decides."""


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
    """What this installation knows of itself: its identity and its secrets, by name."""

    __tablename__ = "instance"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class Subscriber(Base):
    """A person. The address stands as written; `address_key` is unique and case-folded."""

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
    """Asked for fewer mails: not mailed before this instant."""
    tracking_consent: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
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
    """How: command, import, form, api, one-click, page, mailto, bounce, complaint, webhook."""
    ip: Mapped[str] = mapped_column(String(45), default="", server_default="")
    form: Mapped[str] = mapped_column(String(64), default="", server_default="")
    form_version: Mapped[str] = mapped_column(String(64), default="", server_default="")
    """Of a `Wording`; empty where no form said anything."""
    note: Mapped[str] = mapped_column(Text, default="", server_default="")
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    import_id: Mapped[int | None] = mapped_column(Identifier, ForeignKey("imports.id"), index=True)


class Wording(Base):
    """What a form said to those who agreed to something by it; one row for all of them."""

    __tablename__ = "wordings"

    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    first_at: Mapped[datetime]


class SignUpRequest(Base):
    """A sign-up request that is not answered yet: stored before the form says "Check your inbox"."""

    __tablename__ = "sign_up_requests"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(320))
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """Name, attributes, tags, language, and where the request came from."""


class Import(Base):
    """One import of subscribers, so that it can be told and taken back."""

    __tablename__ = "imports"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Text)
    added: Mapped[int] = mapped_column(default=0)
    updated: Mapped[int] = mapped_column(default=0)
    unchanged: Mapped[int] = mapped_column(default=0)
    kept_out: Mapped[int] = mapped_column(default=0)
    """Opted out, complained, bounced or erased before: not brought back."""
    opted_out: Mapped[int] = mapped_column(default=0)
    taken_off: Mapped[int] = mapped_column(default=0)
    left_alone: Mapped[int] = mapped_column(default=0)
    rejected: Mapped[int] = mapped_column(default=0)
    reverted_at: Mapped[datetime | None]


class Suppression(Base):
    """A reason never to mail an address, whoever subscribes it.

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
    """A key to the API: what it may do, and the SHA-256 of its secret."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(Text)
    """Separated by blanks."""
    created_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    """When it was last used, to the hour."""
    revoked_at: Mapped[datetime | None]


class StoredEdition(Base):
    """A frozen rendering under its SHA-256."""

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
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    """Why it is paused or was cancelled."""
    segment: Mapped[str] = mapped_column(Text, default="", server_default="")
    audience: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How many deliveries were queued; counting them anew would mean reading each."""
    dated_at: Mapped[datetime]
    """The Date: of every message of this issue's first attempt."""
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    """When the archive first showed it; None while it is not public."""
    canary: Mapped[str | None] = mapped_column(String(16))
    """None without one. Until it has passed, only its members are mailed."""
    canary_until: Mapped[datetime | None]
    """How long it waits for reports."""


class CanaryMember(Base):
    """A delivery that goes out before the others of its issue."""

    __tablename__ = "canary_members"
    __table_args__ = ({"sqlite_with_rowid": False},)

    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(Identifier, primary_key=True)


WAITS = "state IN ('deferred', 'uncertain')"
"""The condition of the partial index of deliveries. A statement uses that index only if it says these very
words: a database cannot tell that a value given later would fit."""


class Delivery(Base):
    """One issue to one subscriber.

    Queued rows are claimed along the primary key, so they need no index; the few that wait for another
    try have a partial one, and so have those that failed. On PostgreSQL the migration makes these
    partial alike; saying so here would load its dialect for everybody.
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
    """A letter to one subscriber that is not settled yet. The row is deleted once it is sent, failed or
    skipped; its event keeps the result.
    """

    __tablename__ = "letters"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey("subscribers.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str] = mapped_column(String(16))
    """confirmation, welcome or goodbye."""
    language: Mapped[str] = mapped_column(String(35), default="", server_default=text("''"))
    """What the person's browser asked for (BCP 47); empty is the newsletter's."""
    asked_at: Mapped[datetime]
    due_at: Mapped[datetime] = mapped_column(index=True)
    """The next attempt; of a letter being sent, when its claim ends."""
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    state: Mapped[str] = mapped_column(String(16), default="queued", server_default=text("'queued'"))
    """A `DeliveryState`: queued, sending, deferred or uncertain."""
    changed_at: Mapped[datetime | None]
    code: Mapped[int | None]
    enhanced: Mapped[str | None] = mapped_column(String(16))
    reply: Mapped[str | None] = mapped_column(Text)
    bounce_class: Mapped[str | None] = mapped_column(String(32))


class Run(Base):
    """One process that sends. A `sending` delivery names the run that claimed it."""

    __tablename__ = "runs"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    issue_id: Mapped[int] = mapped_column(Identifier, ForeignKey("issues.id"), index=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class StoredReport(Base):
    """A mail or webhook about a delivery, kept as it came, so that newer rules can judge it again."""

    __tablename__ = "reports"
    __table_args__ = (Index("ix_reports_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    received_at: Mapped[datetime]
    source: Mapped[str] = mapped_column(Text)
    """Where it came from: `maildir:PATH`, `imap:NAME`, `lmtp`, `pipe`, `webhook:PROVIDER`."""
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the raw octets: the same report twice is one."""
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
    """Something that happened and that no other table tells: opens, clicks, pauses, alerts."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_issue_id_kind", "issue_id", "kind"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(32))
    issue_id: Mapped[int | None] = mapped_column(Identifier)
    subscriber_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
