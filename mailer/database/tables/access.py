"""Who may use the API and the console, and what they did there."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    text,
)

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA


class ApiTokenColumns(TypedColumns):
    """An API token: its scopes and the SHA-256 of its secret."""

    id: Named[int] = Column(Identifier, primary_key=True)
    name: Named[str] = Column(String(64))
    digest: Named[str] = Column(String(64))
    scopes: Named[str] = Column(Text)
    """Separated by spaces."""
    created_at: Named[datetime] = Column(Instant)
    used_at: Named[datetime | None] = Column(Instant)
    """When it was last used, to the hour."""
    revoked_at: Named[datetime | None] = Column(Instant)


ApiToken = Table("api_tokens", METADATA, ApiTokenColumns)


class ConsoleUserColumns(TypedColumns):
    """A person who may use the console."""

    id: Named[int] = Column(Identifier, primary_key=True)
    name: Named[str] = Column(String(64), unique=True)
    role: Named[str] = Column(String(16))
    password: Named[str] = Column(Text)
    """An Argon2 hash, with its parameters."""
    totp_secret: Named[str] = Column(String(64))
    totp_step: Named[int] = Column(Integer, default=0, server_default=text("0"))
    """The time step of the last code that was accepted; no code is accepted twice (RFC 6238)."""
    email: Named[str | None] = Column(String(320), unique=True, index=True)
    """The key of the address by which an OpenID Connect provider knows them."""
    issuer: Named[str | None] = Column(Text)
    """The provider through which they have logged in."""
    subject: Named[str | None] = Column(String(255))
    """Their account there."""
    created_at: Named[datetime] = Column(Instant)


ConsoleUser = Table(
    "console_users",
    METADATA,
    ConsoleUserColumns,
    Index("ix_console_users_issuer_subject", "issuer", "subject", unique=True),
)


class ConsoleSessionColumns(TypedColumns):
    """A login to the console, or a link that can be used for one login."""

    digest: Named[str] = Column(String(64), primary_key=True)
    """SHA-256 of the secret in the cookie or the link."""
    kind: Named[str] = Column(String(8))
    """`link` or `session`."""
    user_id: Named[int | None] = Column(
        Identifier,
        ForeignKey("console_users.id", ondelete="CASCADE", name="fk_console_sessions_user_id_console_users"),
        index=True,
    )
    """None for the person at this machine, who needs no user."""
    agent: Named[str] = Column(String(64), default="", server_default="")
    """SHA-256 of the browser's User-Agent."""
    created_at: Named[datetime] = Column(Instant)
    expires_at: Named[datetime] = Column(Instant)


ConsoleSession = Table("console_sessions", METADATA, ConsoleSessionColumns, sqlite_with_rowid=False)


class ConsolePasskeyColumns(TypedColumns):
    """A passkey of a console user: the public key of a WebAuthn credential."""

    credential_id: Named[str] = Column(String(1400), primary_key=True)
    """In base64url; an authenticator chooses up to 1023 octets."""
    user_id: Named[int] = Column(
        Identifier,
        ForeignKey("console_users.id", ondelete="CASCADE", name="fk_console_passkeys_user_id_console_users"),
        index=True,
    )
    public_key: Named[bytes] = Column(LargeBinary)
    sign_count: Named[int] = Column(BigInteger, default=0, server_default=text("0"))
    """How often the authenticator says it was used; a smaller number means a copy. Many always say 0."""
    created_at: Named[datetime] = Column(Instant)
    used_at: Named[datetime | None] = Column(Instant)


ConsolePasskey = Table("console_passkeys", METADATA, ConsolePasskeyColumns)


class StoredProposalColumns(TypedColumns):
    """An issue that waits until a second person approves that it is sent."""

    slug: Named[str] = Column(String(255), primary_key=True)
    kind: Named[str] = Column(String(16))
    """`send`, `schedule` or `amend`."""
    digest: Named[str] = Column(String(64))
    """The digest of its edition; what is sent must be what was proposed."""
    segment: Named[str] = Column(Text, default="", server_default="")
    share: Named[float | None] = Column(Float)
    """The share of the audience that gets it first; None without a canary."""
    due_at: Named[datetime | None] = Column(Instant)
    zone: Named[str] = Column(String(64), default="", server_default="")
    wall_time: Named[str] = Column(String(32), default="", server_default="")
    """The time on the clock in every subscriber's zone, as ISO 8601; empty for one instant."""
    who: Named[str] = Column(String(64))
    at: Named[datetime] = Column(Instant)


StoredProposal = Table("proposals", METADATA, StoredProposalColumns, sqlite_with_rowid=False)


class AuditEntryColumns(TypedColumns):
    """Something that a person did in the console. Entries are added, never changed."""

    id: Named[int] = Column(Identifier, primary_key=True)
    at: Named[datetime] = Column(Instant)
    who: Named[str] = Column(String(64))
    """The user's name; it stays when the user is removed."""
    act: Named[str] = Column(String(64))
    about: Named[str] = Column(Text, default="", server_default="")
    """The issue, the subscriber's id or the file."""
    details: Named[dict[str, Any]] = Column(JSON, default=dict)
    """What changed, as `before` and `after` where both exist."""


AuditEntry = Table("audit", METADATA, AuditEntryColumns)


class ApiRequestColumns(TypedColumns):
    """A request that was done under an idempotency key, with its answer."""

    caller: Named[int] = Column(Identifier, primary_key=True, autoincrement=False)
    """The id of the API token."""
    key: Named[str] = Column(String(255), primary_key=True)
    digest: Named[str] = Column(String(64))
    """SHA-256 of the request."""
    answer: Named[dict[str, Any]] = Column(JSON)
    at: Named[datetime] = Column(Instant, index=True)


ApiRequest = Table("api_requests", METADATA, ApiRequestColumns, sqlite_with_rowid=False)
