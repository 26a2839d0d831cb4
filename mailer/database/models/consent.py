"""The consent ledger, and what its lines come from: forms, requests to sign up, and imports."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from mailer.database.columns import Identifier
from mailer.database.models.base import Base
from mailer.database.models.people import Subscriber


class Consent(Base):
    """The consent ledger: one line for each change of a status. Lines are added, never changed."""

    __tablename__ = "consents"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True)
    subscriber_id: Mapped[int] = mapped_column(
        Identifier, ForeignKey(Subscriber.id, ondelete="CASCADE"), index=True
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
