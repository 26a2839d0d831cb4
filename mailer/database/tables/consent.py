"""The consent ledger, and what its lines come from: forms, requests to sign up, and imports."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Integer, Named, String, Table, Text, TypedColumns

from mailer.database.columns import Identifier, Instant
from mailer.database.tables.base import METADATA
from mailer.database.tables.people import Subscriber


class ConsentColumns(TypedColumns):
    """The consent ledger: one line for each change of a status. Lines are added, never changed."""

    id: Named[int] = Column(Identifier, primary_key=True)
    subscriber_id: Named[int] = Column(
        Identifier, ForeignKey(Subscriber.c.id, ondelete="CASCADE"), index=True
    )
    at: Named[datetime] = Column(Instant)
    before: Named[str] = Column(String(16), default="", server_default="")
    after: Named[str] = Column(String(16))
    way: Named[str] = Column(String(32))
    """The cause: command, import, form, api, one-click, page, mailto, bounce, complaint, webhook."""
    ip: Named[str] = Column(String(45), default="", server_default="")
    form: Named[str] = Column(String(64), default="", server_default="")
    form_version: Named[str] = Column(String(64), default="", server_default="")
    """The version of a `Wording`; empty if no form was involved."""
    note: Named[str] = Column(Text, default="", server_default="")
    issue_id: Named[int | None] = Column(Identifier)
    import_id: Named[int | None] = Column(Identifier, ForeignKey("imports.id"), index=True)


Consent = Table("consents", METADATA, ConsentColumns)


class WordingColumns(TypedColumns):
    """The wording of a form that people agreed to; one row for each version."""

    version: Named[str] = Column(String(64), primary_key=True)
    text: Named[str] = Column(Text)
    first_at: Named[datetime] = Column(Instant)


Wording = Table("wordings", METADATA, WordingColumns)


class SignUpRequestColumns(TypedColumns):
    """A pending sign-up request, stored before the form says "Check your inbox"."""

    id: Named[int] = Column(Identifier, primary_key=True)
    at: Named[datetime] = Column(Instant)
    address: Named[str] = Column(String(320))
    details: Named[dict[str, Any]] = Column(JSON, default=dict)
    """Name, attributes, tags, language and the origin of the request."""


SignUpRequest = Table("sign_up_requests", METADATA, SignUpRequestColumns)


class ImportColumns(TypedColumns):
    """An import of subscribers, kept so that it can be listed and reverted."""

    id: Named[int] = Column(Identifier, primary_key=True)
    at: Named[datetime] = Column(Instant)
    source: Named[str] = Column(Text)
    added: Named[int] = Column(Integer, default=0)
    updated: Named[int] = Column(Integer, default=0)
    unchanged: Named[int] = Column(Integer, default=0)
    kept_out: Named[int] = Column(Integer, default=0)
    """Not added, because they had opted out, complained, bounced or been erased."""
    opted_out: Named[int] = Column(Integer, default=0)
    taken_off: Named[int] = Column(Integer, default=0)
    left_alone: Named[int] = Column(Integer, default=0)
    rejected: Named[int] = Column(Integer, default=0)
    reverted_at: Named[datetime | None] = Column(Instant)


Import = Table("imports", METADATA, ImportColumns)
