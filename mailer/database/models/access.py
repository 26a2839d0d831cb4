"""Who may use the API and the console, and what they did there."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base


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
    __table_args__ = (Index("ix_console_users_issuer_subject", "issuer", "subject", unique=True),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password: Mapped[str] = mapped_column(Text)
    """An Argon2 hash, with its parameters."""
    totp_secret: Mapped[str] = mapped_column(String(64))
    totp_step: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """The time step of the last code that was accepted; no code is accepted twice (RFC 6238)."""
    email: Mapped[str | None] = mapped_column(String(320), unique=True, index=True)
    """The key of the address by which an OpenID Connect provider knows them."""
    issuer: Mapped[str | None] = mapped_column(Text)
    """The provider through which they have logged in."""
    subject: Mapped[str | None] = mapped_column(String(255))
    """Their account there."""
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
        Identifier,
        ForeignKey("console_users.id", ondelete="CASCADE", name="fk_console_sessions_user_id_console_users"),
        index=True,
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
        Identifier,
        ForeignKey("console_users.id", ondelete="CASCADE", name="fk_console_passkeys_user_id_console_users"),
        index=True,
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
    wall_time: Mapped[str] = mapped_column(String(32), default="", server_default="")
    """The time on the clock in every subscriber's zone, as ISO 8601; empty for one instant."""
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
